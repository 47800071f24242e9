//! Clocks, deadlines, timers. Nothing here says how long anything takes: only what comes before what.

use alloc::string::ToString;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use granite::sync::InterruptGuard;
use granite::time::{Deadline, Instant, TimedOut, sleep, timer, wait_until, wall_clock};

use crate::harness::{ALL, Case, Context, NotPassed, UNDER_XEN};
use granite::testing::{check, check_same};

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("time::it_never_goes_back", ALL, monotonic),
    Case::new("time::a_sleep_ends_and_not_before_its_time", ALL, sleeping),
    Case::new("time::a_deadline_that_has_passed_ends_at_once", ALL, passed),
    Case::new("time::the_wall_clock_goes_on", UNDER_XEN, wall),
    Case::new("time::an_alarm_and_a_wait_share_the_timer", UNDER_XEN, alarm),
    Case::new("time::an_alarm_has_one_user", UNDER_XEN, alarms_are_claimed),
    Case::new("time::deadlines_that_are_very_far", UNDER_XEN, far),
    Case::new("time::waits_with_interrupts_masked", UNDER_XEN, masked),
];

fn monotonic(_: &Context) -> Result<(), NotPassed> {
    let mut last = Instant::now();
    let first = last;
    for _ in 0..300 {
        let now = Instant::now();
        check!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
    check!(last > first, "it stands at {first:?}");
    Ok(())
}

fn sleeping(_: &Context) -> Result<(), NotPassed> {
    for duration in [Duration::ZERO, Duration::from_micros(10), Duration::from_millis(3)] {
        let start = Instant::now();
        sleep(duration);
        check!(start.elapsed() >= duration, "{:?}", start.elapsed());
    }
    Ok(())
}

fn passed(_: &Context) -> Result<(), NotPassed> {
    let past = Deadline::at(Instant::from_nanoseconds(0));
    let mut asked = 0;
    let nothing = || {
        asked += 1;
        None::<()>
    };
    check_same!(wait_until(past, nothing), Err(TimedOut));
    check_same!(asked, 1);
    Ok(())
}

fn wall(_: &Context) -> Result<(), NotPassed> {
    let Some(before) = wall_clock() else { return Err(NotPassed::Fail("there is none".into())) };
    sleep(Duration::from_millis(2));
    let after = wall_clock().unwrap_or_default();
    check!(after >= before + Duration::from_millis(2), "{before:?}, {after:?}");
    // After 2020, and before 2100.
    check!((1_577_836_800..4_102_444_800).contains(&before.as_secs()), "{before:?}");
    Ok(())
}

static ALARMS: AtomicU32 = AtomicU32::new(0);

/// The alarm of these cases: it counts.
fn claimed() -> Result<timer::Alarm, NotPassed> {
    static ALARM: spin::Once<timer::Alarm> = spin::Once::new();
    let count = || {
        ALARMS.fetch_add(1, Ordering::Relaxed);
    };
    let claimed = ALARM.try_call_once(|| timer::on_alarm(count));
    claimed.copied().map_err(|error| NotPassed::Fail(error.to_string()))
}

/// The earlier of the two comes first, and neither takes the other away.
fn alarm(_: &Context) -> Result<(), NotPassed> {
    let alarm = claimed()?;
    ALARMS.store(0, Ordering::Relaxed);
    let alarms = || ALARMS.load(Ordering::Relaxed);
    // During a longer wait.
    alarm.set(Deadline::after(Duration::from_millis(1)));
    sleep(Duration::from_millis(6));
    check_same!(alarms(), 1);
    // After a shorter one, with another wait to come, and with none.
    alarm.set(Deadline::after(Duration::from_millis(4)));
    sleep(Duration::from_millis(1));
    check!(wait_until(Deadline::after(Duration::from_secs(30)), || (alarms() == 2).then_some(())).is_ok());
    alarm.set(Deadline::after(Duration::from_millis(4)));
    sleep(Duration::from_millis(1));
    let deadline = Deadline::after(Duration::from_secs(10));
    while alarms() == 2 {
        check!(!deadline.has_passed(), "the wait took the alarm's timer along");
        granite::time::pause();
    }
    // Taken back before it can come.
    {
        let _masked = InterruptGuard::mask();
        alarm.set(Deadline::after(Duration::from_millis(2)));
        alarm.set(Deadline::NEVER);
    }
    sleep(Duration::from_millis(5));
    check_same!(alarms(), 3);
    Ok(())
}

/// There are two users, and no third takes an alarm from one of them.
fn alarms_are_claimed(_: &Context) -> Result<(), NotPassed> {
    let first = claimed()?;
    let second = timer::on_alarm(|| ());
    check!(second.is_ok_and(|second| second != first), "{second:?}");
    check_same!(timer::on_alarm(|| ()), Err(timer::NoAlarm));
    // The first has its alarm still.
    let before = ALARMS.load(Ordering::Relaxed);
    first.set(Deadline::after(Duration::from_millis(1)));
    let came = || (ALARMS.load(Ordering::Relaxed) > before).then_some(());
    check!(wait_until(Deadline::after(Duration::from_secs(30)), came).is_ok());
    Ok(())
}

/// Farther than a signed number can say: they don't come at once.
fn far(_: &Context) -> Result<(), NotPassed> {
    let alarm = claimed()?;
    for at in [1u64 << 63, u64::MAX, i64::MAX as u64] {
        alarm.set(Deadline::at(Instant::from_nanoseconds(at)));
        let mut looks = 0;
        let twice = || {
            looks += 1;
            (looks == 2).then_some(())
        };
        check!(wait_until(Deadline::at(Instant::from_nanoseconds(at)), twice).is_ok());
    }
    alarm.set(Deadline::NEVER);
    Ok(())
}

/// They end by the deadline, and leave interrupts masked.
fn masked(_: &Context) -> Result<(), NotPassed> {
    let ended = {
        let _masked = InterruptGuard::mask();
        let ended = wait_until(Deadline::after(Duration::from_millis(1)), || None::<()>);
        check!(!granite::arch::interrupts_are_enabled());
        ended
    };
    check_same!(ended, Err(TimedOut));
    check!(granite::arch::interrupts_are_enabled());
    Ok(())
}
