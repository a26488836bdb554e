//! File descriptors: every session is a socket, and the usual limit of 1,024 is nowhere near a county.

use fleet::{Camera, Transport};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::UserError;

/// What is asked for at the start, whatever the fleet's size: a node's share of a county, and room to grow.
const WANTED: u64 = 40_000;
/// For everything that is no camera: broker, database, evidence, libraries, a spare for reconnects.
const MARGIN: u64 = 512;

/// Raises the limit as far as the system lets us.
///
/// # Errors
/// The limit is below what these cameras need: the user has to raise it.
pub fn raise<'a>(cameras: impl Iterator<Item = &'a Camera>) -> anyhow::Result<()> {
    // Over UDP: the RTSP connection, RTP and RTCP.
    let sockets = |camera: &Camera| if camera.transport == Transport::Udp { 3 } else { 1 };
    let (count, sum) = cameras.fold((0, 0), |(count, sum), camera| (count + 1, sum + sockets(camera)));
    raise_to_fit(count, sum)
}

/// The same for so many connections, whatever they are.
///
/// # Errors
/// As for [`raise`].
pub fn raise_for(connections: usize) -> anyhow::Result<()> {
    raise_to_fit(connections, connections)
}

fn raise_to_fit(cameras: usize, sockets: usize) -> anyhow::Result<()> {
    let needed = MARGIN + sockets as u64;
    let limit = raise_to(WANTED.max(needed))?;
    if limit < needed {
        return Err(UserError(too_few(limit, cameras, needed)).into());
    }
    if limit < WANTED {
        tracing::info!("{limit} files and sockets at most: enough for these {cameras} cameras ({needed})");
    }
    Ok(())
}

fn too_few(limit: u64, cameras: usize, needed: u64) -> String {
    format!(
        "this process may open {limit} files and sockets; {cameras} cameras need {needed}. Raise the limit: \
         LimitNOFILE={WANTED} in the systemd unit, `ulimit -n {WANTED}` in the shell that starts huiyan (as root, or \
         within the hard limit that `ulimit -Hn` shows), or nofile in /etc/security/limits.conf"
    )
}

/// Raises the soft limit, beyond the hard one if we may; what it is then.
fn raise_to(wanted: u64) -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(soft);
    }
    // Only a privileged process may raise the hard limit.
    if hard >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?;
    }
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_too_low_a_one_says_what_to_do() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let lower = soft.min(hard).min(256);
        setrlimit(Resource::RLIMIT_NOFILE, lower, hard).unwrap();
        assert_eq!(raise_to(1_000.min(hard)), Ok(1_000.min(hard)));
        assert!(raise(std::iter::empty()).is_ok() || hard < MARGIN);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        let text = too_few(1_024, 2_500, 3_012);
        for part in ["1024", "2500 cameras need 3012", "LimitNOFILE=40000", "ulimit -n 40000"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
