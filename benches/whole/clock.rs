//! When calls of an open loop are due.

use std::time::{Duration, Instant};
use timer::Timer;

/// Says when calls are due, at exponential gaps.
pub struct Clock {
    timer: Timer,
    rate: f64,
    next: Instant,
}

impl Clock {
    /// So many a second.
    pub fn start(rate: f64) -> Self {
        Self { timer: Timer::new(), rate, next: Instant::now() }
    }

    /// Waits until the next call is due, and says when that was.
    pub async fn due(&mut self) -> Instant {
        self.next += Duration::from_secs_f64(-(1.0 - rand::random::<f64>()).ln() / self.rate);
        let left = self.next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Late: answers are to be read all the same.
            tokio::task::yield_now().await;
        } else {
            self.timer.wait(left).await;
        }
        self.next
    }
}

/// The system's, which wakes the runtime as a socket does. Tokio's is a millisecond coarse, and a thread that sleeps or spins
/// would take time on a core from what is measured.
#[cfg(target_os = "linux")]
mod timer {
    use rustix::{
        fd::OwnedFd,
        time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        },
    };
    use std::time::Duration;
    use tokio::io::{Interest, unix::AsyncFd};

    pub struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        pub fn new() -> Self {
            // Else the system wakes it up to 50 µs late.
            let _ = std::fs::write("/proc/self/timerslack_ns", "1");
            let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK).unwrap();
            #[expect(
                deprecated,
                reason = "its successor is unsafe; an owned descriptor cannot change or close before"
            )]
            Self(AsyncFd::with_interest(timer, Interest::READABLE).unwrap())
        }

        pub async fn wait(&self, left: Duration) {
            let once = Itimerspec { it_interval: Timespec::default(), it_value: left.try_into().unwrap() };
            timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once).unwrap();
            // Setting it anew takes its ring back: nothing need be read.
            self.0.readable().await.unwrap().clear_ready();
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod timer {
    use std::time::Duration;

    pub struct Timer;

    impl Timer {
        pub fn new() -> Self {
            Self
        }

        pub async fn wait(&self, left: Duration) {
            tokio::time::sleep(left).await;
        }
    }
}
