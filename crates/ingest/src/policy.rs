//! Deadlines and limits.

use std::time::Duration;

/// How patient `ingest` is. The defaults suit cameras on a city network; tests shorten them.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Connecting and DESCRIBE, with the second round that authentication takes.
    pub describe: Duration,
    /// SETUP.
    pub setup: Duration,
    /// PLAY.
    pub play: Duration,
    /// From PLAY to the first whole picture. More than one key interval: some cameras send nothing before a key picture.
    pub first_picture: Duration,
    /// Between two whole pictures, key or not.
    pub no_data: Duration,
    /// TEARDOWN, at a reconnect and at the end.
    pub teardown: Duration,
    /// First wait after a failure, of a camera (see [`Backoff`](crate::Backoff)) and of a host that does not answer;
    /// doubled after each further one.
    pub backoff_base: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
    /// A session that sent pictures for this long counts as a success: the next failure starts at `backoff_base`.
    pub steady_after: Duration,
    /// Wait after the second refused log-in in a row, of all cameras that share log-in and host: cameras and recorders
    /// lock an account after some five.
    pub auth_wait: Duration,
    /// A stream that was left because its key pictures come too far apart is looked at again after this time, then after
    /// twice as long, and so on.
    pub long_keys_retry: Duration,
    /// Largest picture in bytes; a camera that sends a larger one is [`Broken`](flow::CameraState::Broken).
    pub max_access_unit: usize,
    /// Measured rates are reported at most this often.
    pub health_every: Duration,
    /// A camera of which more than this share of the RTP packets is lost, in percent over six times `health_every`, is
    /// [`Losing`](flow::CameraState::Losing). At 2 % three of four key pictures of 70 packets are damaged.
    pub losing_above: f32,
    /// And it is until it loses no more than this.
    pub losing_below: f32,
    /// New sessions per second, all cameras together, so that a switch coming back is not met with all at once. > 0.
    pub starts_per_second: u32,
    /// Sessions being set up at the same time. > 0.
    pub setups: usize,
    /// Sessions being set up at the same time at one host, an address and port (a recorder serves many cameras). > 0.
    pub setups_per_host: usize,
    /// Sessions being set up at the same time in one network: a /24 of IPv4, a /64 of IPv6. > 0.
    pub setups_per_subnet: usize,
    /// How long [`Ingest::shutdown`](crate::Ingest::shutdown) waits.
    pub shutdown: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            describe: Duration::from_secs(10),
            setup: Duration::from_secs(5),
            play: Duration::from_secs(5),
            first_picture: Duration::from_secs(15),
            no_data: Duration::from_secs(15),
            teardown: Duration::from_secs(2),
            backoff_base: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            steady_after: Duration::from_secs(30),
            auth_wait: Duration::from_secs(600),
            long_keys_retry: Duration::from_secs(1800),
            max_access_unit: 4 << 20,
            health_every: Duration::from_secs(10),
            losing_above: 2.0,
            losing_below: 1.0,
            starts_per_second: 400,
            setups: 256,
            setups_per_host: 4,
            setups_per_subnet: 64,
            shutdown: Duration::from_secs(5),
        }
    }
}
