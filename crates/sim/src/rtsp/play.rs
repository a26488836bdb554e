//! What a playing session sends, and when.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::connection::{Connection, Delivery, End, Playing};
use super::extra::Extra;
use super::player::Player;
use super::rtcp;

/// Datagrams in one go: a key picture sent at once would overflow a client's default receive buffer.
const UDP_BURST: usize = 32;
const UDP_PAUSE: Duration = Duration::from_millis(1);
/// Pictures sent per wake-up at most when late, so that one client cannot hold a thread.
const MAX_CATCH_UP: usize = 32;

thread_local! {
    /// Where a picture's packets are put together. One per thread, not per session: a session keeps only what its
    /// socket did not take.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Connection<'_> {
    pub(super) fn play_extras(&mut self, extras: &mut [Extra], now: Instant) -> Result<(), End> {
        for extra in extras {
            while extra.due().is_some_and(|due| due <= now) {
                SCRATCH.with_borrow_mut(|out| {
                    out.clear();
                    match extra.delivery {
                        Delivery::Interleaved { rtp, .. } => {
                            out.extend_from_slice(&[b'$', rtp, 0, 0]);
                            extra.packet(now, out);
                            let size = (out.len() - 4) as u16;
                            out[2..4].copy_from_slice(&size.to_be_bytes());
                            // A client that takes nothing misses it.
                            if self.pending.is_empty() { self.send(out) } else { Ok(()) }
                        }
                        Delivery::Udp { rtp, .. } => {
                            extra.packet(now, out);
                            self.send_datagram(out, rtp);
                            Ok(())
                        }
                    }
                })?;
            }
        }
        Ok(())
    }

    pub(super) fn play(
        &mut self,
        delivery: Delivery,
        playing: &mut Playing,
        now: Instant,
    ) -> Result<(), End> {
        if playing.player.cut().is_some_and(|cut| now >= cut) {
            return Err(End::Reset);
        }
        if now >= playing.next_report {
            playing.next_report = now + self.shared.options.report_every;
            if !playing.player.silent(now) {
                SCRATCH.with_borrow_mut(|out| {
                    self.send_rtcp(delivery, playing, out, now, rtcp::sender_report)
                })?;
            }
        }
        for _ in 0..MAX_CATCH_UP {
            let due = match &playing.in_flight {
                Some((_, _, resume)) => *resume,
                None => playing.player.due().unwrap_or(now + UDP_PAUSE),
            };
            if due > now {
                break;
            }
            SCRATCH.with_borrow_mut(|out| match delivery {
                Delivery::Interleaved { rtp, .. } => self.send_interleaved(&mut playing.player, rtp, out),
                Delivery::Udp { rtp, .. } => {
                    self.send_datagrams(playing, rtp, out, now);
                    Ok(())
                }
            })?;
        }
        if !self.closing && playing.player.end().is_some_and(|end| now >= end) {
            self.closing = true;
            SCRATCH.with_borrow_mut(|out| self.send_rtcp(delivery, playing, out, now, rtcp::bye))?;
        }
        Ok(())
    }

    fn send_interleaved(&mut self, player: &mut Player, channel: u8, out: &mut Vec<u8>) -> Result<(), End> {
        let counters = &self.shared.counters;
        if !self.pending.is_empty() {
            player.drop_to_key();
            counters.pictures_dropped.fetch_add(player.take_skipped(), Ordering::Relaxed);
            return Ok(());
        }
        counters.pictures.fetch_add(1, Ordering::Relaxed);
        let picture = player.take();
        out.clear();
        player.interleaved(&picture, channel, out);
        self.send(out)?;
        if picture.cut { Err(End::Reset) } else { Ok(()) }
    }

    /// Sends the next datagrams of the picture in flight, or of the one that is due.
    fn send_datagrams(&mut self, playing: &mut Playing, to: SocketAddr, out: &mut Vec<u8>, now: Instant) {
        let counters = &self.shared.counters;
        let (picture, first) = match playing.in_flight.take() {
            Some((picture, next, _)) => (picture, next),
            None => {
                counters.pictures.fetch_add(1, Ordering::Relaxed);
                let picture = playing.player.take();
                let first = picture.packets.start;
                (picture, first)
            }
        };
        let end = picture.packets.end.min(first + UDP_BURST);
        for packet in first..end {
            out.clear();
            if playing.player.packet(&picture, packet, out) {
                playing.late.pass(out, |datagram| self.send_datagram(datagram, to));
            }
        }
        if end < picture.packets.end {
            playing.in_flight = Some((picture, end, now + UDP_PAUSE));
        }
    }

    /// A datagram that the kernel does not take is lost, as it would be on the way.
    fn send_datagram(&self, datagram: &[u8], to: SocketAddr) {
        if let Ok(size) = self.shared.rtp.try_send_to(datagram, to) {
            self.shared.counters.bytes.fetch_add(size as u64, Ordering::Relaxed);
        }
    }

    fn send_rtcp(
        &mut self,
        delivery: Delivery,
        playing: &Playing,
        out: &mut Vec<u8>,
        now: Instant,
        write: fn(&rtcp::Report, SystemTime, &mut Vec<u8>),
    ) -> Result<(), End> {
        out.clear();
        let report = playing.player.report(now);
        let clock = camera_clock(playing.player.clock_error(now));
        match delivery {
            Delivery::Interleaved { rtcp, .. } => {
                // A report can wait; half a picture cannot be interrupted, so it is queued behind it.
                out.extend_from_slice(&[b'$', rtcp, 0, 0]);
                write(&report, clock, out);
                let size = (out.len() - 4) as u16;
                out[2..4].copy_from_slice(&size.to_be_bytes());
                self.send(out)
            }
            Delivery::Udp { rtcp, .. } => {
                write(&report, clock, out);
                if let Ok(size) = self.shared.rtcp.try_send_to(out, rtcp) {
                    self.shared.counters.bytes.fetch_add(size as u64, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }
}

/// What a clock shows that is wrong by so many seconds.
fn camera_clock(error: i64) -> SystemTime {
    let (now, error_abs) = (SystemTime::now(), Duration::from_secs(error.unsigned_abs()));
    let wrong = if error < 0 { now.checked_sub(error_abs) } else { now.checked_add(error_abs) };
    wrong.unwrap_or(now)
}
