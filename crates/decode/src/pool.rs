//! The pool's outside: queues in front, threads behind.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use fleet::{Camera, Decoding, Pictures};
use flow::{AccessUnit, CameraId, Flow, Frame, Polygon, Role};
use gstreamer as gst;

use crate::backend::Backend;
use crate::counters::{Counters, Reason};
use crate::device::Means;
use crate::worker::{Shared, Worker};
use crate::{DecodeError, Fault};

/// How the pool is sized.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Worker threads; 0: one per core that this process may use.
    pub threads: usize,
    /// Access units that wait per thread, at least 1: the queue for pictures that stand alone, shared by all
    /// threads, holds this many times `threads`; each thread's own queue for chained pictures holds this many.
    pub queue: usize,
    /// Cameras per thread that can be decoded in full.
    pub max_chained: usize,
    /// What decodes.
    pub decoding: Decoding,
    /// Where pictures stay. Those of cameras with masks come to main memory in any case.
    pub pictures: Pictures,
    /// Cameras with parts that nobody may see: they are black in every picture that comes out.
    pub masks: Masks,
}

/// Parts of the picture that nobody may see, of the cameras that have such.
pub type Masks = Arc<HashMap<CameraId, Arc<[Polygon]>>>;

/// Those of a fleet's cameras.
pub fn masks_of<'c>(cameras: impl IntoIterator<Item = &'c Camera>) -> Masks {
    let masked = cameras.into_iter().filter(|camera| !camera.masks.is_empty());
    Arc::new(masked.map(|camera| (camera.id.clone(), camera.masks.clone())).collect())
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            queue: 16,
            max_chained: 4,
            decoding: Decoding::Software,
            pictures: Pictures::MainMemory,
            masks: Arc::default(),
        }
    }
}

/// The access unit was not taken; it is counted as dropped (`overflow`, or `shutdown` once the pool is closed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The queue holds as many as it may.
    #[error("{0} access units are waiting for a decoder already")]
    Queue(usize),
    /// The pool is shut down.
    #[error("the decoders are shut down")]
    Closed,
}

/// A fixed number of threads that decode for any number of cameras.
pub struct Pool {
    shared: Arc<Shared>,
    /// `None` once closed.
    senders: RwLock<Option<Senders>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Disconnected when the last worker has ended.
    ended: Receiver<()>,
    count: usize,
}

struct Senders {
    any: Sender<AccessUnit>,
    own: Vec<Sender<AccessUnit>>,
}

impl Pool {
    /// Starts the threads. Pictures go to `output`, and what goes wrong with a camera's pictures to `on_error`;
    /// both are called on worker threads and should return soon: while they do not, that worker decodes nothing.
    ///
    /// # Errors
    /// Where GStreamer, one of its decoders or the hardware asked for is missing, or the system refuses a thread; where
    /// pictures are to stay on a GPU and cannot.
    pub fn new(
        options: PoolOptions,
        output: impl Fn(Frame) + Send + Sync + 'static,
        on_error: impl Fn(&CameraId, &Fault) + Send + Sync + 'static,
    ) -> Result<Self, DecodeError> {
        gst::init().map_err(|e| DecodeError::Init(e.to_string()))?;
        let means = Means::new(Backend::choose(options.decoding)?, options.pictures)?;
        let count = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let shared = Arc::new(Shared {
            means,
            counters: Counters::default(),
            output: Box::new(output),
            on_error: Box::new(on_error),
            masks: options.masks,
            abort: AtomicBool::new(false),
        });
        let queue = options.queue.max(1);
        let (any, any_out) = bounded(queue * count);
        let (alive, ended) = bounded(1);
        let mut own = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let (sender, own_out) = bounded(queue);
            own.push(sender);
            let worker = Worker::new(shared.clone(), options.max_chained);
            let (any_out, alive) = (any_out.clone(), alive.clone());
            let run = move || {
                let _alive: Sender<()> = alive;
                worker.run(any_out, own_out);
            };
            let thread = std::thread::Builder::new().name(format!("decode-{index}")).spawn(run);
            threads.push(thread.map_err(|source| DecodeError::Thread { index, source })?);
        }
        Ok(Self {
            shared,
            senders: RwLock::new(Some(Senders { any, own })),
            threads: Mutex::new(threads),
            ended,
            count,
        })
    }

    /// What decodes: with [`Decoding::Auto`], what was found.
    pub fn backend(&self) -> Backend {
        self.shared.means.backend
    }

    /// Worker threads.
    pub fn threads(&self) -> usize {
        self.count
    }

    /// Hands over one access unit; never blocks.
    ///
    /// # Errors
    /// Where its queue is full: the access unit is gone, and counted.
    pub fn offer(&self, unit: AccessUnit) -> Result<(), Full> {
        self.shared.counters.received.add(1);
        let senders = self.senders.read().unwrap_or_else(PoisonError::into_inner);
        let Some(senders) = senders.as_ref() else {
            self.shared.counters.drop_one(Reason::Shutdown);
            return Err(Full::Closed);
        };
        let queue = match unit.role {
            Role::Alone => &senders.any,
            Role::Chained { .. } => &senders.own[worker_of(&unit.camera, senders.own.len())],
        };
        queue.try_send(unit).map_err(|_| {
            self.shared.counters.drop_one(Reason::Overflow);
            Full::Queue(queue.capacity().unwrap_or(0))
        })
    }

    /// What came in, went out and was dropped so far: `overflow` (queue full), `corrupt` (no picture, or a damaged
    /// one), `no_key` (nothing to build on), `not_wanted` (decoded as a reference only), `recovering` (the stream was entered
    /// at a recovery point and is not whole yet), `no_decoder` (too many
    /// cameras in full), `failed` (the decoder gave up and was rebuilt), `shutdown`.
    pub fn counters(&self) -> Flow {
        self.shared.counters.flow()
    }

    /// Takes nothing more, decodes what is waiting for at most `deadline`, then drops the rest (`shutdown`).
    /// Returns the final account. Later calls return the same.
    pub fn shutdown(&self, deadline: Duration) -> Flow {
        let until = Instant::now() + deadline;
        *self.senders.write().unwrap_or_else(PoisonError::into_inner) = None;
        // Nothing is ever sent: this waits for the disconnection.
        if let Err(crossbeam_channel::RecvTimeoutError::Timeout) = self.ended.recv_deadline(until) {
            self.shared.abort.store(true, Ordering::Relaxed);
        }
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(thread = name, "a decoder thread panicked");
            }
        }
        self.counters()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

/// The same camera always goes to the same worker, so that the order of its pictures is kept.
fn worker_of(camera: &CameraId, workers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    camera.hash(&mut hasher);
    (hasher.finish() % workers as u64) as usize
}
