//! An upstream that speaks HTTP as a broken one does: what `rota::scripted` is too well-behaved for.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Duration, sleep},
};

/// How it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Resets the connection.
    Reset,
    /// Says nothing more, and stays.
    Hang,
    /// Sends a byte now and then.
    Drip,
    /// Says that the answer is shorter than it is.
    Short,
    /// Says that the answer is longer than it is, and closes.
    Long,
    /// Begins a chunk with what is no length.
    Chunks,
}

/// A whole answer.
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","model":"chat","choices":[{"index":0,"message":{"role":"assistant","content":"a lie"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
/// A stream's first content, and what would come next.
const EVENT: &str = "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"chat\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a lie\"},\"finish_reason\":null}]}\n\n";

/// Requests by what became of them.
#[derive(Default)]
struct Counts {
    whole: AtomicUsize,
    before: AtomicUsize,
    after: AtomicUsize,
}

/// See the module's documentation. Every other stream breaks after its first content, the others before it.
pub struct Liar {
    port: u16,
    lie: Arc<Mutex<Lie>>,
    counts: Arc<Counts>,
    server: JoinHandle<()>,
}

impl Liar {
    pub async fn start(lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (lie, counts) = (Arc::new(Mutex::new(lie)), Arc::<Counts>::default());
        let (told, counted) = (lie.clone(), counts.clone());
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, told.clone(), counted.clone()));
            }
        });
        Self { port, lie, counts, server }
    }

    /// What goes into a config's `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Misbehaves so from now on.
    pub fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
    }

    /// How many requests it has met so far: for whole answers, and for streams it breaks before and after their first
    /// content.
    pub fn met(&self) -> [usize; 3] {
        let Counts { whole, before, after } = &*self.counts;
        [whole, before, after].map(|count| count.load(Ordering::SeqCst))
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut stream: TcpStream, lie: Arc<Mutex<Lie>>, counts: Arc<Counts>) {
    let Some(request) = read_request(&mut stream).await else { return };
    let lie = *lie.lock().unwrap();
    let streamed = request.contains("\"stream\":true");
    let (kind, begin) = if streamed {
        let before = counts.before.load(Ordering::SeqCst) < counts.after.load(Ordering::SeqCst);
        if before { &counts.before } else { &counts.after }.fetch_add(1, Ordering::SeqCst);
        ("text/event-stream", if before { "" } else { EVENT })
    } else {
        counts.whole.fetch_add(1, Ordering::SeqCst);
        ("application/json", "")
    };
    // Broken off where the client has gone.
    let _ = tell(&mut stream, lie, kind, begin, if streamed { EVENT } else { ANSWER }).await;
}

/// `begin` comes through, and `rest` does not.
async fn tell(stream: &mut TcpStream, lie: Lie, kind: &str, begin: &str, rest: &str) -> std::io::Result<()> {
    let whole = begin.len() + rest.len();
    let framing = match lie {
        Lie::Chunks => "transfer-encoding: chunked".to_owned(),
        Lie::Short => format!("content-length: {}", begin.len() + rest.len() / 2),
        Lie::Long => format!("content-length: {}", whole + 100),
        Lie::Reset | Lie::Hang | Lie::Drip => format!("content-length: {}", whole + 4096),
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n");
    // Where nothing is to come through, some say nothing at all.
    if !begin.is_empty() || !matches!(lie, Lie::Reset | Lie::Hang) {
        stream.write_all(head.as_bytes()).await?;
    }
    let begin = match lie {
        Lie::Chunks if !begin.is_empty() => format!("{:x}\r\n{begin}\r\n", begin.len()),
        _ => begin.to_owned(),
    };
    stream.write_all(begin.as_bytes()).await?;
    // Apart, so that the client has had it.
    sleep(Duration::from_millis(50)).await;
    match lie {
        Lie::Reset => stream.set_zero_linger()?,
        Lie::Hang => sleep(Duration::from_secs(600)).await,
        Lie::Drip => {
            for byte in rest.bytes() {
                stream.write_all(&[byte]).await?;
                sleep(Duration::from_millis(100)).await;
            }
        }
        Lie::Short => stream.write_all(rest.as_bytes()).await?,
        Lie::Long => stream.write_all(&rest.as_bytes()[..rest.len() / 2]).await?,
        Lie::Chunks => stream.write_all(format!("lie\r\n{rest}\r\n0\r\n\r\n").as_bytes()).await?,
    }
    Ok(())
}

/// Head and body of a request; none where the client goes away.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
                return Some(text);
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
