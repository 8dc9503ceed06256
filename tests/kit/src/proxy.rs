//! A network that fails on purpose: a TCP proxy that passes, delays, swallows or breaks what goes through it.
//!
//! ```text
//! client ◀──▶ Proxy ◀──▶ target        pass        as it comes
//!                                       delay       each chunk later by so much, each way, in order
//!                                       drop_all    nothing arrives, nobody is told: a partition
//!                                       reset       all connections broken, new ones too
//! ```
//!
//! A mode applies at once, to open connections and to new ones. What was sent after a call is treated as the call says.
//! When a partition ends, connections that lost something in it are reset: their streams have holes, and a network whose
//! ends have given each other up answers the same.
//!
//! It runs on a thread of its own, so a test may block while it goes on.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What one direction of a connection holds back at most; then its sender has to wait.
const BUFFER_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES: usize = 16 << 10;

/// A running proxy on a free loopback port. Dropping it closes its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// The thread ends when this goes.
    state: Option<watch::Sender<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    target: Option<SocketAddr>,
    /// How often all connections were broken: none that is older lives on, even if the mode has changed since.
    resets: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Delay(Duration),
    Drop,
    Reset,
}

/// Why a connection ends other than by both sides' word.
#[derive(Debug)]
struct Broken;

impl Proxy {
    /// Starts one that passes all to a target.
    ///
    /// # Panics
    /// If the machine has no free loopback port or no more threads.
    #[must_use]
    pub fn start(target: SocketAddr) -> Self {
        let proxy = Self::listen();
        proxy.forward_to(target);
        proxy
    }

    /// Starts one whose target is not known yet, as when the target must know the proxy's port first. Until
    /// [`Proxy::forward_to`] connections are reset.
    ///
    /// # Panics
    /// As [`Proxy::start`].
    #[must_use]
    pub fn listen() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        listener.set_nonblocking(true).expect("a socket can be told not to block");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (state, seen) = watch::channel(State { mode: Mode::Pass, target: None, resets: 0 });
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime for the proxy").block_on(accept(listener, seen));
        };
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(run).expect("a thread");
        Self { address, state: Some(state), thread: Some(thread) }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, new connections go there.
    pub fn forward_to(&self, target: SocketAddr) {
        self.change(|state| state.target = Some(target));
    }

    /// Passes all, and what was held back by a delay too.
    pub fn pass(&self) {
        self.change(|state| state.mode = Mode::Pass);
    }

    /// Each chunk arrives later by so much, each way, in order. Connecting takes no longer.
    pub fn delay(&self, by: Duration) {
        self.change(|state| state.mode = Mode::Delay(by));
    }

    /// Swallows all bytes, each way, and that a side has closed. New connections are accepted and as silent.
    pub fn drop_all(&self) {
        self.change(|state| state.mode = Mode::Drop);
    }

    /// Breaks all connections and, until another mode is set, new ones.
    pub fn reset(&self) {
        self.change(|state| {
            state.mode = Mode::Reset;
            state.resets += 1;
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.as_ref().expect("it is there until the proxy is dropped").send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state = None;
        if let Some(thread) = self.thread.take() {
            // It has no result; if it panicked, that was shown.
            drop(thread.join());
        }
    }
}

/// Accepts until the proxy is dropped; the connections end with the runtime.
async fn accept(listener: std::net::TcpListener, mut state: watch::Receiver<State>) {
    let listener = TcpListener::from_std(listener).expect("a listener that does not block");
    loop {
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                tokio::spawn(serve(client, state.clone()));
            },
        }
    }
}

/// One connection, until it ends or is broken.
async fn serve(mut client: TcpStream, mut state: watch::Receiver<State>) {
    let State { mode, target, resets } = *state.borrow_and_update();
    if mode == Mode::Drop {
        // What it says is lost, so it can only end.
        drop(swallow(&mut client.split().0, &mut state).await);
    }
    let still = *state.borrow_and_update();
    let is_fresh = mode != Mode::Drop && still.mode != Mode::Reset && still.resets == resets;
    let server = match target.filter(|_| is_fresh) {
        Some(target) => TcpStream::connect(target).await.ok(),
        None => None,
    };
    let Some(mut server) = server else {
        break_off(&client);
        return;
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let ended = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::try_join!(
            pump(from_client, to_server, state.clone(), resets),
            pump(from_server, to_client, state, resets)
        )
    };
    if let Err(Broken) = ended {
        break_off(&client);
        break_off(&server);
    }
}

/// Closing it from now on sends a reset.
fn break_off(stream: &TcpStream) {
    // Fails only on a connection that is broken already.
    drop(stream.set_zero_linger());
}

/// One direction.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<State>,
    resets: u64,
) -> Result<(), Broken> {
    let mut buffer = vec![0; CHUNK_BYTES];
    // When it came, and what of it is still to be written.
    let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut held_bytes = 0;
    let mut has_ended = false;
    loop {
        let now = *state.borrow_and_update();
        if now.resets != resets {
            return Err(Broken);
        }
        let delay = match now.mode {
            Mode::Reset => return Err(Broken),
            Mode::Drop => {
                let has_lost = !held.is_empty() || has_ended;
                held.clear();
                held_bytes = 0;
                if swallow(&mut from, &mut state).await? || has_lost {
                    return Err(Broken);
                }
                continue;
            }
            Mode::Pass => Duration::ZERO,
            Mode::Delay(by) => by,
        };
        if has_ended && held.is_empty() {
            return to.shutdown().await.map_err(|_| Broken);
        }
        tokio::select! {
            // A change first: what was read before it is seen above, what was not is read after it.
            biased;
            changed = state.changed() => changed.map_err(|_| Broken)?,
            written = write_first(&mut to, &held, delay), if !held.is_empty() => {
                let written = written?;
                held_bytes -= written;
                let (_, first) = held.front_mut().expect("it was not empty");
                first.drain(..written);
                if first.is_empty() {
                    held.pop_front();
                }
            }
            read = from.read(&mut buffer), if !has_ended && held_bytes < BUFFER_BYTES_MAX => {
                let read = read.map_err(|_| Broken)?;
                if read == 0 {
                    has_ended = true;
                } else {
                    held_bytes += read;
                    held.push_back((Instant::now(), buffer[..read].to_vec()));
                }
            }
        }
    }
}

/// Writes some of the chunk that came first, once it is late enough. Cancelled, it has written nothing.
async fn write_first(
    to: &mut WriteHalf<'_>,
    held: &VecDeque<(Instant, Vec<u8>)>,
    delay: Duration,
) -> Result<usize, Broken> {
    let Some((came, chunk)) = held.front() else { return Ok(0) };
    if !delay.is_zero() {
        sleep_until(*came + delay).await;
    }
    to.write(chunk).await.map_err(|_| Broken)
}

/// Reads and forgets while the mode is to drop; whether anything was lost. That a side closed or broke is news, too.
async fn swallow(from: &mut ReadHalf<'_>, state: &mut watch::Receiver<State>) -> Result<bool, Broken> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut has_lost, mut has_ended) = (false, false);
    while state.borrow_and_update().mode == Mode::Drop {
        tokio::select! {
            biased;
            changed = state.changed() => changed.map_err(|_| Broken)?,
            read = from.read(&mut buffer), if !has_ended => {
                has_lost = true;
                has_ended = !matches!(read, Ok(1..));
            }
        }
    }
    Ok(has_lost)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Long enough for what should come, on any machine.
    const PATIENCE: Duration = Duration::from_secs(30);
    /// Long enough to notice what should not come, most of the time.
    const GLANCE: Duration = Duration::from_millis(100);

    /// Answers each connection with what it says. The thread ends with the test's process.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn hears(stream: &mut TcpStream, expected: &[u8]) {
        let mut heard = vec![0; expected.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, expected);
    }

    fn says_and_hears(stream: &mut TcpStream, said: &[u8]) {
        stream.write_all(said).unwrap();
        hears(stream, said);
    }

    fn hears_nothing(stream: &mut TcpStream) {
        stream.set_read_timeout(Some(GLANCE)).unwrap();
        let error = stream.read(&mut [0; 8]).expect_err("neither bytes nor an end");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    fn is_reset(stream: &mut TcpStream) {
        let error = stream.read(&mut [0; 8]).expect_err("neither bytes nor an end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn all_passes_and_so_does_the_end() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        let long: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut writer = stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&long).unwrap());
            hears(&mut stream, &long);
        });
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "the echo's end, after ours");
    }

    #[test]
    fn what_is_swallowed_is_lost_and_its_connection_ends_with_the_partition() {
        let proxy = Proxy::start(echo());
        let (mut talks, mut idles) = (connect(&proxy), connect(&proxy));
        says_and_hears(&mut talks, b"one");
        says_and_hears(&mut idles, b"one");
        proxy.drop_all();
        talks.write_all(b"lost").unwrap();
        let mut new = connect(&proxy);
        new.write_all(b"lost").unwrap();
        hears_nothing(&mut talks);
        hears_nothing(&mut new);
        proxy.pass();
        is_reset(&mut talks);
        is_reset(&mut new);
        says_and_hears(&mut idles, b"two");
        says_and_hears(&mut connect(&proxy), b"three");
    }

    #[test]
    fn a_partition_hides_that_the_other_side_has_gone() {
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = Proxy::start(target.local_addr().unwrap());
        let client = connect(&proxy);
        let (mut server, _) = target.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        proxy.drop_all();
        drop(client);
        hears_nothing(&mut server);
        proxy.pass();
        is_reset(&mut server);
    }

    #[test]
    fn a_delay_holds_back_and_keeps_the_order() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        says_and_hears(&mut stream, b"before");
        proxy.delay(Duration::from_secs(3600));
        for n in 0..10_u8 {
            stream.write_all(&[n]).unwrap();
        }
        hears_nothing(&mut stream);
        proxy.pass();
        hears(&mut stream, &(0..10).collect::<Vec<u8>>());

        let by = Duration::from_millis(30);
        proxy.delay(by);
        let start = std::time::Instant::now();
        says_and_hears(&mut stream, b"there and back");
        assert!(start.elapsed() >= by * 2, "each way takes as long: {:?}", start.elapsed());
    }

    #[test]
    fn a_delayed_connection_makes_its_sender_wait() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        says_and_hears(&mut stream, b"before");
        proxy.delay(Duration::from_secs(3600));
        stream.set_write_timeout(Some(GLANCE)).unwrap();
        // Far more than the proxy and the system's own buffers hold.
        let refused = (0..10_000).find(|_| stream.write_all(&[0; CHUNK_BYTES]).is_err());
        assert!(refused.is_some(), "160 MB were taken");
    }

    #[test]
    fn a_reset_breaks_all_connections_until_it_is_taken_back() {
        let proxy = Proxy::start(echo());
        let mut old = connect(&proxy);
        says_and_hears(&mut old, b"one");
        proxy.reset();
        is_reset(&mut old);
        // The system completes a connection before anybody accepts it; so it is broken right after.
        is_reset(&mut connect(&proxy));
        proxy.pass();
        let mut stream = connect(&proxy);
        says_and_hears(&mut stream, b"two");
        proxy.reset();
        proxy.pass();
        is_reset(&mut stream);
    }

    #[test]
    fn a_target_that_is_not_there_or_not_known_resets() {
        let proxy = Proxy::listen();
        is_reset(&mut connect(&proxy));
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        proxy.forward_to(gone);
        is_reset(&mut connect(&proxy));
        proxy.forward_to(echo());
        says_and_hears(&mut connect(&proxy), b"found");
    }
}
