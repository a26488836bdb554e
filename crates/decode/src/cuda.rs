//! The part of CUDA that it takes to hand over a picture where NVDEC left it. All that calls into NVIDIA's libraries, or
//! GStreamer's about them, is in this file; both are loaded at run time, so that nothing is linked to CUDA.
//!
//! **One context.** An address means something in one CUDA context only. GStreamer's `nvcodec` would make one of its own;
//! ONNX Runtime works in the device's *primary* one, as everything does that uses CUDA's runtime library. So the decoders
//! are given that one: `libcuda` says which it is, `libgstcuda` wraps it (`gst_cuda_context_new_wrapped`, since 1.22).
//!
//! **Done is done.** The stream on which GStreamer copies a picture out of the decoder and the one on which ONNX Runtime reads
//! it know nothing of each other. GStreamer 1.22 waits for its copy before it passes the buffer on; later versions leave
//! that to the reader, who calls `gst_cuda_memory_sync` (since 1.24), as [`Cuda::finish`] does. The other way round, ONNX
//! Runtime waits for its stream at the end of each run, and the picture lives until then.
//!
//! **Not tried.** No GPU was at hand: of this file the tests run what fails without one, and [`Mapped`] on main memory.

#![allow(unsafe_code)]

use std::error::Error as _;
use std::ffi::{CStr, c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Arc, OnceLock};

use gstreamer as gst;
use libloading::Library;

use crate::DecodeError;

/// NVIDIA's driver, and GStreamer's library about it.
const DRIVER: &str = "libcuda.so.1";
const GSTREAMER: &str = "libgstcuda-1.0.so.0";
/// The device that ONNX Runtime uses where nothing else is said.
const DEVICE: c_int = 0;
/// `GST_MAP_CUDA` of gstcudamemory.h: "the address on the device".
const MAP_CUDA: gst::ffi::GstMapFlags = gst::ffi::GST_MAP_FLAG_LAST << 1;

/// What caps say of pictures in CUDA's memory, and what such a memory calls itself (gstcudamemory.h).
pub(crate) const FEATURE: &str = "memory:CUDAMemory";
pub(crate) const MEMORY: &str = "gst.cuda.memory";

/// CUcontext and GstCudaContext, of which only the addresses matter here.
type Handle = *mut c_void;
type Finish = unsafe extern "C" fn(*mut gst::ffi::GstMemory);

/// CUDA, as decoders and ONNX Runtime share it.
#[derive(Debug)]
pub(crate) struct Cuda {
    context: gst::Context,
    /// `gst_cuda_memory_sync`; versions before 1.24 need none.
    finish: Option<Finish>,
}

impl Cuda {
    /// Device 0 with its primary context, which is kept for as long as the process lives.
    ///
    /// # Errors
    /// Where a library, a function or the device is missing: which, and which key of the configuration asked for it.
    pub(crate) fn primary() -> Result<Arc<Self>, DecodeError> {
        static SHARED: OnceLock<Arc<Cuda>> = OnceLock::new();
        if let Some(cuda) = SHARED.get() {
            return Ok(cuda.clone());
        }
        let made = Arc::new(Self::load(DRIVER, GSTREAMER)?);
        Ok(SHARED.get_or_init(|| made).clone())
    }

    fn load(driver: &'static str, gstreamer: &'static str) -> Result<Self, DecodeError> {
        let library = open(driver)?;
        let context = primary_context(&library, driver)?;
        // The context is its work.
        std::mem::forget(library);
        let library = open(gstreamer)?;
        let failed = |what: &str| DecodeError::Cuda { library: gstreamer, reason: what.to_owned() };
        // SAFETY: the types are those of gstcudaloader.h, gstcudamemory.h, gstcudacontext.h and gstcudautils.h of 1.22 and
        // later. GStreamer is initialised by now (the pool does so first). The primary context is never released, so the
        // wrapper cannot outlive it. What the last two return is ours ("transfer full"); it may be null, which is looked at.
        let context = unsafe {
            let load: unsafe extern "C" fn() -> gst::glib::ffi::gboolean =
                symbol(&library, c"gst_cuda_load_library", gstreamer)?;
            let init: unsafe extern "C" fn() = symbol(&library, c"gst_cuda_memory_init_once", gstreamer)?;
            let wrap: unsafe extern "C" fn(Handle, c_int) -> Handle =
                symbol(&library, c"gst_cuda_context_new_wrapped", gstreamer)?;
            let tell: unsafe extern "C" fn(Handle) -> *mut gst::ffi::GstContext =
                symbol(&library, c"gst_context_new_cuda_context", gstreamer)?;
            if load() == gst::glib::ffi::GFALSE {
                return Err(failed("it cannot load the driver"));
            }
            init();
            let wrapped = wrap(context, DEVICE);
            if wrapped.is_null() {
                return Err(failed("gst_cuda_context_new_wrapped refuses the device's context"));
            }
            let told = tell(wrapped);
            gst::glib::gobject_ffi::g_object_unref(wrapped.cast());
            if told.is_null() {
                return Err(failed("gst_context_new_cuda_context gives none"));
            }
            gst::Context::from_glib_full(told)
        };
        // SAFETY: as in gstcudamemory.h since 1.24; absent before.
        let finish = unsafe { symbol(&library, c"gst_cuda_memory_sync", gstreamer) }.ok();
        // It has registered types with GLib, which must never go.
        std::mem::forget(library);
        Ok(Self { context, finish })
    }

    /// A context that names nothing.
    #[cfg(test)]
    pub(crate) fn of_a_test() -> Arc<Self> {
        Arc::new(Self { context: gst::Context::new("gst.cuda.context", true), finish: None })
    }

    /// What a pipeline hands to its decoder, so that it works in the shared context.
    pub(crate) fn context(&self) -> &gst::Context {
        &self.context
    }

    /// Waits until what was written into the picture is there for everyone.
    pub(crate) fn finish(&self, memory: &gst::MemoryRef) {
        if let Some(finish) = self.finish {
            // SAFETY: the caller has seen that it is CUDA's memory ([`MEMORY`]), which the function demands; it is borrowed, so
            // it lives. What it changes is behind the memory's own lock.
            unsafe { finish(memory.as_mut_ptr()) }
        }
    }
}

/// The context in which CUDA's runtime library, and so ONNX Runtime, works on the device.
fn primary_context(library: &Library, name: &'static str) -> Result<Handle, DecodeError> {
    let mut device: c_int = 0;
    let mut context: Handle = ptr::null_mut();
    // SAFETY: the types are those of cuda.h (CUresult is an int, CUdevice an int, CUcontext a pointer). What is pointed to
    // outlives the calls.
    let results = unsafe {
        let init: unsafe extern "C" fn(c_uint) -> c_int = symbol(library, c"cuInit", name)?;
        let get: unsafe extern "C" fn(*mut c_int, c_int) -> c_int = symbol(library, c"cuDeviceGet", name)?;
        let retain: unsafe extern "C" fn(*mut Handle, c_int) -> c_int =
            symbol(library, c"cuDevicePrimaryCtxRetain", name)?;
        let mut results = [("cuInit", init(0)), ("cuDeviceGet", 0), ("cuDevicePrimaryCtxRetain", 0)];
        if results[0].1 == 0 {
            results[1].1 = get(&mut device, DEVICE);
        }
        if results[0].1 == 0 && results[1].1 == 0 {
            results[2].1 = retain(&mut context, device);
        }
        results
    };
    let failed = |reason| DecodeError::Cuda { library: name, reason };
    match results.into_iter().find(|(_, result)| *result != 0) {
        Some((call, result)) => Err(failed(format!("{call} answers CUDA error {result}"))),
        None if context.is_null() => Err(failed("the device has no context".to_owned())),
        None => Ok(context),
    }
}

fn open(name: &'static str) -> Result<Library, DecodeError> {
    // SAFETY: what these libraries do when they are loaded is to prepare themselves; both may be loaded at any time, by any
    // thread, and more than once.
    let library = unsafe { Library::new(name) };
    library.map_err(|error| {
        // The loader's own words are the cause.
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        DecodeError::Cuda { library: name, reason }
    })
}

/// A function of the library.
///
/// # Safety
/// `F` must be a pointer to a function of this very type, and is to be called only while the library is loaded.
unsafe fn symbol<F: Copy>(library: &Library, name: &CStr, of: &'static str) -> Result<F, DecodeError> {
    // SAFETY: the caller's promise.
    let found = unsafe { library.get::<F>(name.to_bytes_with_nul()) };
    let missing = || format!("it has no {}: it is too old", name.to_string_lossy());
    found.map(|symbol| *symbol).map_err(|_| DecodeError::Cuda { library: of, reason: missing() })
}

/// A buffer that is mapped where it lies: the address is the device's own. It goes back to its pool when this is gone.
#[derive(Debug)]
pub(crate) struct Mapped {
    buffer: gst::Buffer,
    map: gst::ffi::GstMapInfo,
}

// SAFETY: the address in `map` is not used by us, only handed on; a buffer may be unmapped by any thread.
unsafe impl Send for Mapped {}
// SAFETY: nothing changes while it is shared.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps a buffer of one memory for reading on the device. A memory that knows no device (the tests') is mapped where
    /// the processor sees it. `None`: it cannot be mapped.
    pub(crate) fn new(buffer: gst::Buffer) -> Option<Self> {
        if buffer.n_memory() != 1 {
            return None;
        }
        let mut map = MaybeUninit::uninit();
        let flags = gst::ffi::GST_MAP_READ | MAP_CUDA;
        // SAFETY: the buffer is ours and stays so until `drop` unmaps it; with one memory, mapping for reading changes
        // nothing of it. `map` is written where the call says TRUE, and only read then.
        unsafe {
            let mapped = gst::ffi::gst_buffer_map(buffer.as_mut_ptr(), map.as_mut_ptr(), flags);
            (mapped != gst::glib::ffi::GFALSE).then(|| Self { map: map.assume_init(), buffer })
        }
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> u64 {
        self.map.data as u64
    }

    /// Its bytes.
    pub(crate) fn size(&self) -> usize {
        self.map.size
    }

    /// The buffer, which can be mapped for the processor as well.
    pub(crate) fn buffer(&self) -> &gst::BufferRef {
        &self.buffer
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: `new` mapped it with this very `map`, and nobody has unmapped it.
        unsafe { gst::ffi::gst_buffer_unmap(self.buffer.as_mut_ptr(), &mut self.map) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(driver: &'static str, gstreamer: &'static str) -> String {
        gst::init().unwrap();
        Cuda::load(driver, gstreamer).unwrap_err().to_string()
    }

    #[test]
    fn a_library_that_is_not_there_is_named_with_the_key_that_asked_for_it() {
        let text = said("libno-such-driver.so.1", GSTREAMER);
        assert!(text.starts_with("node.pictures asks for accelerator"), "{text}");
        assert!(
            text.contains("libno-such-driver.so.1 cannot be used: libno-such-driver.so.1: cannot open"),
            "{text}"
        );
        assert!(text.contains("leave node.pictures at main_memory"), "{text}");
    }

    #[test]
    fn a_library_without_what_is_needed_is_named_with_what_it_lacks() {
        // A library that is on every machine and is no driver.
        let text = said("libc.so.6", GSTREAMER);
        assert!(text.contains("libc.so.6") && text.contains("it has no cuInit"), "{text}");
    }

    #[test]
    fn what_the_library_of_this_gstreamer_must_have_is_there() {
        // Where the package of the plugins is installed, its library has the functions that are called, GPU or not.
        let Ok(library) = open(GSTREAMER) else {
            #[allow(clippy::disallowed_macros, reason = "a test says that it is skipped")]
            return println!("skipped: {GSTREAMER} is not installed");
        };
        for name in [
            c"gst_cuda_load_library",
            c"gst_cuda_memory_init_once",
            c"gst_cuda_context_new_wrapped",
            c"gst_context_new_cuda_context",
        ] {
            // SAFETY: it is looked up and not called.
            let found = unsafe { symbol::<unsafe extern "C" fn()>(&library, name, GSTREAMER) };
            assert!(found.is_ok(), "{name:?}");
        }
        std::mem::forget(library);
    }
}
