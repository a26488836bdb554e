//! A camera that nobody here wrote: GStreamer's RTSP server, in this process, with a main loop and a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use gstreamer as gst;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::gst_rtsp::{RTSPAuthMethod, RTSPLowerTrans};
use gstreamer_rtsp_server::prelude::*;

/// 320×180 at 25 fps, a key picture every ten.
pub const H264: &str = "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=25/1 \
    ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 ! rtph264pay name=pay0 pt=96 )";
pub const H265: &str = "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=25/1 \
    ! x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10 option-string=pools=1:frame-threads=1 \
    ! rtph265pay name=pay0 pt=96 )";

#[derive(Clone, Copy)]
pub enum Login {
    Open,
    Basic,
    Digest,
}

pub const USER: &str = "watcher";
pub const PASSWORD: &str = "correct horse";

/// Stops when dropped.
pub struct Server {
    pub port: u16,
    /// Connections so far.
    pub clients: Arc<AtomicUsize>,
    main_loop: rtsp::glib::MainLoop,
    thread: Option<JoinHandle<()>>,
}

/// What makes a server special.
#[derive(Default)]
pub struct Extras {
    /// TLS with this certificate and key, PEM.
    pub certificate: Option<String>,
    /// It refuses to send RTP in the RTSP connection.
    pub udp_only: bool,
}

impl Server {
    /// Serves `launch` at `/cam`; port 0: any free one.
    pub fn start(launch: impl Into<String>, login: Login, port: u16) -> Self {
        Self::with(launch, login, port, Extras::default())
    }

    /// The same, with extras.
    pub fn with(launch: impl Into<String>, login: Login, port: u16, extras: Extras) -> Self {
        gst::init().unwrap();
        let launch = launch.into();
        let context = rtsp::glib::MainContext::new();
        let main_loop = rtsp::glib::MainLoop::new(Some(&context), false);
        let clients = Arc::new(AtomicUsize::new(0));
        let (ready, wait) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn({
            let (main_loop, clients) = (main_loop.clone(), Arc::clone(&clients));
            move || {
                let serve = || {
                    let server = build(&launch, login, port, &extras);
                    server.connect_client_connected(move |_, _| _ = clients.fetch_add(1, Ordering::Relaxed));
                    let source = server.create_source(rtsp::gio::Cancellable::NONE).unwrap();
                    source.attach(Some(&context));
                    ready.send(server.bound_port()).unwrap();
                    main_loop.run();
                    source.destroy();
                    server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
                    // Closing the connections takes a few turns of the loop.
                    (0..20).for_each(|_| _ = context.iteration(false));
                };
                context.with_thread_default(serve).unwrap();
            }
        });
        let port = u16::try_from(wait.recv().unwrap()).unwrap();
        Self { port, clients, main_loop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.main_loop.quit();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn build(launch: &str, login: Login, port: u16, extras: &Extras) -> rtsp::RTSPServer {
    let server = rtsp::RTSPServer::new();
    server.set_address("127.0.0.1");
    server.set_service(&port.to_string());
    let factory = rtsp::RTSPMediaFactory::new();
    factory.set_launch(launch);
    factory.set_shared(true);
    if !matches!(login, Login::Open) {
        let role = gst::Structure::builder("viewer")
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_ACCESS.as_str(), true)
            .field(rtsp::RTSP_PERM_MEDIA_FACTORY_CONSTRUCT.as_str(), true)
            .build();
        factory.add_role_from_structure(&role);
        let auth = auth(login);
        if let Some(pem) = &extras.certificate {
            auth.set_tls_certificate(Some(&rtsp::gio::TlsCertificate::from_pem(pem).unwrap()));
        }
        server.set_auth(Some(&auth));
    }
    if extras.udp_only {
        factory.set_protocols(RTSPLowerTrans::UDP);
    }
    server.mount_points().unwrap().add_factory("/cam", factory);
    server
}

fn auth(login: Login) -> rtsp::RTSPAuth {
    let auth = rtsp::RTSPAuth::new();
    let token =
        rtsp::RTSPToken::builder().field(rtsp::RTSP_TOKEN_MEDIA_FACTORY_ROLE.as_str(), "viewer").build();
    match login {
        Login::Digest => {
            auth.set_supported_methods(RTSPAuthMethod::Digest);
            auth.add_digest(USER, PASSWORD, &token);
        }
        _ => {
            auth.set_supported_methods(RTSPAuthMethod::Basic);
            auth.add_basic(&rtsp::RTSPAuth::make_basic(USER, PASSWORD), &token);
        }
    }
    auth
}
