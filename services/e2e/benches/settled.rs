//! Orders settled per second, everything on one machine, without tracing and with all of it in turn, the collector on
//! the same machine too. Run by `make bench`; absolute numbers describe the machine, and where it has other work to do,
//! the ratio of all processor time says more than that of what was settled per second: here the processors are the limit.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "settled/counter.rs"]
mod counter;
#[path = "settled/load.rs"]
mod load;
#[path = "settled/usage.rs"]
mod usage;

use std::time::Duration;

use counter::Counter;
use futures::future::try_join_all;
use load::{CALLERS, ORDERS};
use local::{DataDir, Options, Part, Progress, Stack};
use usage::Usage;

const WARM_UP: i64 = 3;
const PAIRS: i64 = 6;
const OURS: [Part; 4] = [Part::Orders, Part::Products, Part::Delivery, Part::Relay];

/// Longer than an exporter keeps a span, so that the last ones are counted, and paid for.
const REST: Duration = Duration::from_secs(6);

/// What one load came to.
struct Half {
    settled_per_second: f64,
    /// Of processor time per order: of each of ours, and of everything together.
    ours: [f64; OURS.len()],
    all: f64,
    spans: usize,
    dropped: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let collector = Counter::start().await?;
    let stack =
        Stack::up(DataDir::temporary()?, &Options::on_free_ports()?, &Progress::to_stderr())
            .await?;
    load::stock_up(&stack, WARM_UP + 2 * PAIRS).await?;
    // Kafka compiles itself while it runs, and the tables are new.
    for round in 0..WARM_UP {
        load::run(&stack, round).await?;
    }
    println!("{PAIRS} times {ORDERS} orders without tracing and with it, {CALLERS} callers");
    let mut halves = [const { Vec::new() }; 2];
    for round in 0..2 * PAIRS {
        // Off, on, on, off, ...: whatever grows with the tables meets both.
        let traced = matches!(round % 4, 1 | 2);
        let half = measure(&stack, WARM_UP + round, traced.then_some(&collector)).await?;
        println!(
            "{:>3} {:>6.0} settled/s, {:>5.0} us of processor an order, {:>5.0} of them ours; {:>4.1} spans, {} dropped",
            if traced { "on" } else { "off" },
            half.settled_per_second,
            half.all,
            half.ours.iter().sum::<f64>(),
            half.spans as f64 / ORDERS as f64,
            half.dropped,
        );
        halves[usize::from(traced)].push(half);
    }
    stack.stop(&Progress::silent()).await?;
    report(&halves)
}

async fn measure(stack: &Stack, round: i64, collector: Option<&Counter>) -> anyhow::Result<Half> {
    let seen = || collector.map_or(0, Counter::count);
    restart(stack, collector.map_or("", |collector| &collector.endpoint)).await?;
    let (spans, before) = (seen(), Usage::now(stack)?);
    let took = load::run(stack, round).await?;
    tokio::time::sleep(REST).await;
    let after = Usage::now(stack)?;
    let micros = |from: Duration, to: Duration| (to - from).as_micros() as f64 / ORDERS as f64;
    Ok(Half {
        settled_per_second: ORDERS as f64 / took.as_secs_f64(),
        ours: std::array::from_fn(|index| micros(before.ours[index], after.ours[index])),
        all: micros(before.all, after.all),
        spans: seen() - spans,
        dropped: usage::dropped_spans(stack).await?,
    })
}

/// Our programs, anew, with their spans sent there.
async fn restart(stack: &Stack, collector: &str) -> anyhow::Result<()> {
    try_join_all(OURS.into_iter().map(async |part| {
        stack.sigterm(part).await?;
        stack.set_env(part, "OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        stack.start(part).await
    }))
    .await?;
    Ok(())
}

/// Means over all halves, their ratio, and the ratios of what ran one after the other.
fn report([off, on]: &[Vec<Half>; 2]) -> anyhow::Result<()> {
    println!("mean of {PAIRS}                         off     on  on/off  by pair");
    for (index, part) in OURS.into_iter().enumerate() {
        compare(&format!("us an order, {part:?}"), off, on, |half| half.ours[index]);
    }
    compare("us an order, all four", off, on, |half| half.ours.iter().sum());
    compare("us an order, everything", off, on, |half| half.all);
    compare("us an order, until settled", off, on, |half| 1e6 / half.settled_per_second);
    let dropped: usize = off.iter().chain(on).map(|half| half.dropped).sum();
    anyhow::ensure!(dropped == 0, "{dropped} spans were dropped: tracing cost less than it should");
    Ok(())
}

fn compare(what: &str, off: &[Half], on: &[Half], of: impl Fn(&Half) -> f64) {
    let of = |halves: &[Half]| halves.iter().map(&of).collect::<Vec<_>>();
    let (off, on) = (of(off), of(on));
    let by_pair: Vec<_> = off.iter().zip(&on).map(|(off, on)| format!("{:.2}", on / off)).collect();
    let [off, on] = [off, on].map(|all| all.iter().sum::<f64>() / all.len() as f64);
    println!("{what:<29} {off:>6.0} {on:>6.0}   {:.3}  {}", on / off, by_pair.join(" "));
}
