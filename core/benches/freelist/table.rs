//! Prints the figures, and how they compare with the targets.

use super::patterns::{PATTERNS, Pattern, Work};
use super::{Role, Row, median};

pub fn print(rows: &[Row], exchanges: &[f64]) {
    let Some(ours) = rows.iter().find(|row| row.role == Role::Ours) else { return };
    println!("one uncontended lock cmpxchg: {:.2} ns", median(exchanges.iter().copied()).unwrap_or(0.0));
    println!(
        "ns for a reference taken and given back, by each of 1 | 2 threads; medians of {}.\n",
        exchanges.len()
    );
    print!("{:38}", "");
    rows.iter().enumerate().for_each(|(index, _)| print!("{:>14}", format!("({})", index + 1)));
    println!();
    for (index, pattern) in measured(ours) {
        print!("{:38}", pattern.name);
        for row in rows {
            let figure = |threads| row.figure(index, threads).map_or("-".into(), |ns| format!("{ns:.1}"));
            print!("{:>14}", format!("{} | {}", figure(1), figure(2)));
        }
        println!();
    }
    println!();
    for (index, row) in rows.iter().enumerate() {
        let shown = if row.role == Role::Shown { " (not compared)" } else { "" };
        println!("({}) {}{shown}", index + 1, row.name);
    }
    println!();
    verdicts(ours, rows, exchanges);
}

fn measured(ours: &Row) -> impl Iterator<Item = (usize, &'static Pattern)> {
    let is_measured = |&(index, _): &(usize, &Pattern)| !ours.rounds[index][1].is_empty();
    PATTERNS.iter().enumerate().filter(is_measured)
}

fn verdict(what: &str, is: f64, holds: bool, wanted: &str) {
    println!("{} {what}: {is:.2} (wanted: {wanted})", if holds { "ok  " } else { "MISS" });
}

fn verdicts(ours: &Row, rows: &[Row], exchanges: &[f64]) {
    let [single, _] = &ours.rounds[0];
    let cost =
        median(single.iter().zip(exchanges).map(|(pair, exchange)| pair / exchange)).unwrap_or(f64::MAX);
    verdict("a pair, in lock cmpxchg", cost, cost <= 0.3, "at most 0.3");
    for (index, pattern) in measured(ours) {
        let [single, double] = &ours.rounds[index];
        let scaling = median(single.iter().zip(double).map(|(one, two)| 2.0 * one / two));
        // If two threads want more references than there are, they can't be twice as fast.
        if let Some(scaling) =
            scaling.filter(|_| !pattern.is_scarce && !matches!(pattern.work, Work::HandOver))
        {
            let what = format!("{}: two threads, in throughputs of one", pattern.name);
            verdict(&what, scaling, scaling >= 1.8, "at least 1.8");
        }
        for threads in 1..=2 {
            let peers = rows.iter().filter(|row| row.role == Role::Peer);
            let best = peers
                .filter_map(|peer| Some((ours.ratio(peer, index, threads)?, peer.name)))
                .min_by(|(a, _), (b, _)| a.total_cmp(b));
            if let Some((ratio, name)) = best {
                let what = format!("{}: {threads} thread(s), against the best peer ({name})", pattern.name);
                verdict(&what, ratio, ratio >= 1.0, "at least 1.0");
            }
        }
    }
}
