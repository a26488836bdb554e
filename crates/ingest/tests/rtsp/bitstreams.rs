//! Streams that are hard to take apart: many parameter sets, several slices, B pictures, fields. What arrives must
//! decode to as many pictures as the file.

use std::path::Path;

use fleet::Sampling;
use flow::Codec;

use crate::gst_server::{Login, Server};
use crate::streams::decoded;
use crate::watcher::{Watcher, camera, policy};

/// Pictures of each file: they come at 25 per second.
const ENOUGH: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance_streams_arrive_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures/bitstreams");
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    let files = [
        ("MPS_MW_A.264", Codec::H264),
        ("MIDR_MW_D.264", Codec::H264),
        ("Cisco_Men_whisper_640x320_CABAC_Bframe_9.264", Codec::H264),
        ("cros_test-25fps-interlaced.h264", Codec::H264),
        ("cros_bear.h265", Codec::H265),
    ];
    let mut servers = Vec::new();
    let mut cameras = Vec::new();
    for (file, codec) in files {
        let name = if codec == Codec::H264 { "h264" } else { "h265" };
        let path = folder.join(file);
        let launch = format!(
            "( filesrc location={} ! {name}parse ! rtp{name}pay name=pay0 pt=96 mtu=600 )",
            path.display()
        );
        servers.push(Server::start(launch, Login::Open, 0));
        let mut camera = camera(file, servers[servers.len() - 1].port, "cam");
        camera.look.sampling = Sampling::Fps(25.0);
        cameras.push(camera);
    }
    let (watcher, ingest) = Watcher::start(cameras, policy());
    for (file, codec) in files {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let expected = decoded(codec, &bytes).min(ENOUGH);
        watcher.until(&format!("end of {file}"), 20, |w| w.pictures(file).len() >= expected).await;
        // A file that was over sooner has been begun again by now, in another session.
        let pictures = watcher.pictures(file);
        let first =
            pictures.iter().take(expected).inspect(|u| assert_eq!(u.session, pictures[0].session, "{file}"));
        let stream: Vec<u8> = first.flat_map(|u| u.data.to_vec()).collect();
        assert_eq!(decoded(codec, &stream), expected, "{file}");
    }
    ingest.shutdown().await;
}
