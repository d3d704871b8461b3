//! Shows the calls while they run: bars in a terminal, or a line per second without one.
//!
//! It writes to standard output. If the reader of that output is gone, the calls go on.

use super::tally::{Member, Tally};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, Write},
    time::Duration,
};

/// Between two pictures.
const PICTURE: Duration = Duration::from_millis(100);
/// Above all updates of the bars a second. A lower limit would show parts of a picture.
const HERTZ: u8 = 250;
/// Cells of a cooldown's clock.
const CLOCK: usize = 10;

pub(super) struct Screen {
    calls: u64,
    bars: Option<Bars>,
    /// Plain lines: when the next is due.
    next_line: Duration,
    /// Bars: when the next picture is due.
    next_picture: Duration,
}

/// The bars and their looks.
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    members: Vec<(ProgressBar, bool)>,
    on_duty: ProgressStyle,
    cooling: ProgressStyle,
}

/// Writes a text while no bar is there.
pub(super) fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

impl Screen {
    pub(super) fn new(calls: u64) -> Self {
        let target = ProgressDrawTarget::stdout_with_hz(HERTZ);
        let bars = if target.is_hidden() { None } else { Bars::new(target, calls) };
        Self { calls, bars, next_line: Duration::ZERO, next_picture: Duration::ZERO }
    }

    /// Shows what is new, if it is time.
    pub(super) fn draw(&mut self, tally: &mut Tally) {
        for event in tally.take_events() {
            self.event(&format!("{:>5.1} s  {}", event.at.as_secs_f64(), event.text));
        }
        let now = tally.elapsed();
        match &mut self.bars {
            Some(bars) if now >= self.next_picture => {
                self.next_picture = now + PICTURE;
                bars.draw(tally, self.calls);
            }
            None if now >= self.next_line => {
                self.next_line += Duration::from_secs(1);
                self.event(&line(tally, self.calls));
            }
            _ => {}
        }
    }

    /// The last picture.
    pub(super) fn finish(&mut self, tally: &mut Tally) {
        self.next_line = Duration::ZERO;
        self.next_picture = Duration::ZERO;
        self.draw(tally);
        if self.bars.take().is_some() {
            say("");
        }
    }

    fn event(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.all.println(format!("  {text}"))),
            None => say(text),
        }
    }
}

impl Bars {
    /// None where a template is wrong: plain lines then.
    fn new(target: ProgressDrawTarget, calls: u64) -> Option<Self> {
        // All lines as long as one another, so that each hides what it overwrites, and with room for the `^C` that a
        // terminal writes behind the last.
        let style = |colour: &str| {
            let template = format!("  {{prefix:<6}} {{bar:22.{colour}}} {{pos:>5}}  {{msg:38}}");
            ProgressStyle::with_template(&template).ok().map(|style| style.progress_chars("█▉▊▋▌▍▎▏ "))
        };
        let (on_duty, cooling) = (style("green")?, style("yellow")?);
        let all = MultiProgress::with_draw_target(target);
        // Overwrites instead of clearing: no flicker.
        all.set_move_cursor(true);
        let bar = |name: &'static str, length: u64, style: &ProgressStyle| {
            let bar = all.add(ProgressBar::new(length));
            bar.set_style(style.clone());
            bar.set_prefix(name);
            bar
        };
        // Half of all calls fills the bar: nobody gets more while two serve.
        let members = super::stage::NAMES.map(|name| (bar(name, calls.div_ceil(2), &on_duty), false)).into();
        let total = bar("calls", calls, &style("cyan")?);
        Some(Self { all, total, members, on_duty, cooling })
    }

    fn draw(&mut self, tally: &Tally, calls: u64) {
        for ((bar, was_cooling), member) in self.members.iter_mut().zip(&tally.members) {
            if *was_cooling != member.cooling.is_some() {
                *was_cooling = member.cooling.is_some();
                bar.set_style(if *was_cooling { &self.cooling } else { &self.on_duty }.clone());
            }
            bar.set_position(member.served);
            bar.set_message(format!("{:>3.0} %  {}", tally.share(member), state(tally, member)));
        }
        self.total.set_position(tally.made());
        self.total.set_message(format!(
            "of {calls}  {:>4.1} s  {} moved on  {} failed",
            tally.elapsed().as_secs_f64(),
            tally.moved_on,
            tally.failed,
        ));
    }
}

impl Drop for Bars {
    /// What was drawn last stays; bars that go clear it otherwise.
    fn drop(&mut self) {
        self.all.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// What a config is doing.
fn state(tally: &Tally, member: &Member) -> String {
    match (member.cooling, &tally.rest) {
        (Some(left), Some(rest)) => {
            let (left, given) = (left.as_secs_f64(), rest.given.as_secs_f64());
            let full = (CLOCK as f64 * left / given).ceil().clamp(0.0, CLOCK as f64) as usize;
            let clock = "■".repeat(full) + &"□".repeat(CLOCK - full);
            format!("cooling {clock} {left:>4.1} s")
        }
        _ => format!("on duty, {} in flight", member.in_flight),
    }
}

/// The same in one plain line.
fn line(tally: &Tally, calls: u64) -> String {
    let members = tally.members.iter().map(|member| {
        let cooling = member.cooling.map(|left| format!(" (cooling {:.1} s)", left.as_secs_f64()));
        format!("  {} {:>3}{}", member.name, member.served, cooling.unwrap_or_default())
    });
    let members: String = members.collect();
    format!(
        "{:>5.1} s  {:>3} of {calls} calls:{members}  moved on {}  failed {}",
        tally.elapsed().as_secs_f64(),
        tally.made(),
        tally.moved_on,
        tally.failed,
    )
}
