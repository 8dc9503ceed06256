//! Time on the clock and on cores.

use std::time::Instant;

use crate::Outcome;

/// A span that has begun.
pub(crate) struct Meter {
    start: Instant,
    own: f64,
    engine: Option<(u32, f64)>,
}

/// What a span took.
pub(crate) struct Spent {
    pub(crate) wall_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) engine_cpu_s: f64,
}

impl Meter {
    /// Of this process alone.
    pub(crate) fn start() -> Outcome<Self> {
        Ok(Self { own: cpu_s("self")?, engine: None, start: Instant::now() })
    }

    /// Of this process and the engine's.
    pub(crate) fn with(engine: u32) -> Outcome<Self> {
        let spent = cpu_s(&engine.to_string())?;
        Ok(Self { engine: Some((engine, spent)), ..Self::start()? })
    }

    pub(crate) fn spent(&self) -> Outcome<Spent> {
        let wall_s = self.start.elapsed().as_secs_f64();
        let engine_cpu_s = match self.engine {
            Some((pid, before)) => cpu_s(&pid.to_string())? - before,
            None => 0.0,
        };
        Ok(Spent { wall_s, cpu_s: cpu_s("self")? - self.own, engine_cpu_s })
    }
}

impl Spent {
    /// A line of JSON; `bytes` is what `mb_per_cpu_s` counts.
    pub(crate) fn print(&self, what: &str, rows: u64, bytes: u64, more: &[(&str, f64)]) {
        let cpu_s = (self.cpu_s + self.engine_cpu_s).max(0.01);
        let more: String = more.iter().map(|(name, value)| format!(",\"{name}\":{value:.1}")).collect();
        println!(
            "{{\"what\":\"{what}\",\"rows\":{rows},\"wall_s\":{:.3},\"cpu_s\":{:.2},\"engine_cpu_s\":{:.2},\
             \"rows_per_wall_s\":{:.0},\"rows_per_cpu_s\":{:.0},\"mb_per_cpu_s\":{:.1}{more}}}",
            self.wall_s,
            self.cpu_s,
            self.engine_cpu_s,
            rows as f64 / self.wall_s,
            rows as f64 / cpu_s,
            bytes as f64 / 1e6 / cpu_s,
        );
    }
}

/// Seconds on cores so far: user and system time are the 14th and 15th field, in hundredths; the second, in brackets, may
/// hold blanks.
fn cpu_s(pid: &str) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').ok_or("no stat of a process")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

/// Resident memory of this process, in MB.
pub(crate) fn resident_mb() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kb: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kb / 1024)
}
