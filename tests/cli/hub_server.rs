//! A hub on this machine that keeps repositories in memory and speaks the hub's protocol: repositories, branches, storage by Git LFS,
//! commits, files. It does what a test tells it to do wrong, once each.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use sha2::{Digest as _, Sha256};

use crate::workshop::Workshop;

/// The token that may write to repositories of `acme`, and one that may only read.
pub const WRITES: &str = "hf_writes";
pub const READS: &str = "hf_reads";

/// Files above this size are large ones, under any name.
const LARGE: usize = 10 << 20;

/// Files on a page of a repository's list.
const PAGE: usize = 3;

/// What the hub does wrong once, to the first request whose method and path contain a text.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Sends half of the content and hangs up.
    Breaks,
    /// Sends another byte in the middle of the content.
    Damages,
    /// Somebody else commits first.
    Overtaken,
    /// Does what it is asked for, but its answer is lost.
    Lost,
}

/// A file of a commit.
#[derive(Clone)]
enum File {
    Whole(Vec<u8>),
    Large(String),
}

type Tree = BTreeMap<String, File>;

#[derive(Default)]
struct Repo {
    is_private: bool,
    sdk: String,
    branches: BTreeMap<String, String>,
    commits: BTreeMap<String, Tree>,
    titles: Vec<String>,
}

#[derive(Default)]
pub struct State {
    /// By `models/OWNER/NAME` or `spaces/OWNER/NAME`.
    repos: BTreeMap<String, Repo>,
    /// Large contents by SHA-256.
    large: BTreeMap<String, Vec<u8>>,
    /// Method and path of each request.
    log: Vec<String>,
    faults: Vec<(String, Fault)>,
}

/// The server. It stops with the test's process.
pub struct HubServer {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

impl HubServer {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let (own, here) = (state.clone(), endpoint.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that hangs up early is its own business.
                let _ = serve(stream.unwrap(), &mut own.lock().unwrap(), &here);
            }
        });
        Self { endpoint, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The program with this hub, a cache of its own and a token, or none.
    pub fn command(&self, shop: &Workshop, arguments: &str, token: Option<&str>) -> Command {
        let mut command = shop.command(arguments);
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HF_HUB_CACHE"] {
            command.env_remove(name);
        }
        command.env("HF_ENDPOINT", &self.endpoint).env("HF_HOME", shop.path("home")).env("NO_PROXY", "*");
        if let Some(token) = token {
            command.env("HF_TOKEN", token);
        }
        command
    }

    /// The hub's address with a user and a password in it.
    pub fn guarded(&self) -> String {
        self.endpoint.replace("://", "://ann:s3cret@")
    }

    /// Does something wrong with the next request of this kind.
    pub fn next(&self, request: &str, fault: Fault) {
        self.state().faults.push((request.into(), fault));
    }

    /// Requests since the last call.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// Paths of a repository's branch, and whether each is stored as a large file.
    pub fn files(&self, repo: &str, branch: &str) -> BTreeMap<String, bool> {
        let state = self.state();
        let repo = &state.repos[repo];
        let tree = &repo.commits[&repo.branches[branch]];
        tree.iter().map(|(path, file)| (path.clone(), matches!(file, File::Large(_)))).collect()
    }

    /// A file of a branch.
    pub fn read(&self, repo: &str, branch: &str, path: &str) -> Vec<u8> {
        let state = self.state();
        let repo = &state.repos[repo];
        state.content(&repo.commits[&repo.branches[branch]][path]).to_vec()
    }

    /// Commits one file, as people do on the hub's page.
    pub fn edit(&self, repo: &str, branch: &str, path: &str, content: &[u8]) {
        let mut state = self.state();
        let repo = state.repos.get_mut(repo).unwrap();
        let mut tree = repo.commits[&repo.branches[branch]].clone();
        tree.insert(path.into(), File::Whole(content.into()));
        repo.add(branch, tree, "Edited by hand");
    }

    /// Makes all commits of a repository's main branch one, as the hub offers to.
    pub fn squash(&self, repo: &str) {
        let mut state = self.state();
        let repo = state.repos.get_mut(repo).unwrap();
        let tree = repo.commits[&repo.branches["main"]].clone();
        repo.titles.clear();
        repo.add("main", tree, "Super-squash branch 'main'");
    }

    /// An empty repository.
    pub fn make(&self, repo: &str) {
        self.state().make(repo, false, "");
    }

    /// Whether only its owner sees a repository, its SDK, and the titles of its commits.
    pub fn facts(&self, repo: &str) -> (bool, String, Vec<String>) {
        let repo = &self.state().repos[repo];
        (repo.is_private, repo.sdk.clone(), repo.titles.clone())
    }

    /// The branch's last commit.
    pub fn commit(&self, repo: &str, branch: &str) -> String {
        self.state().repos[repo].branches[branch].clone()
    }
}

impl Repo {
    fn add(&mut self, branch: &str, tree: Tree, title: &str) -> String {
        let name = format!("{:040x}", 0xc0ffee + self.commits.len());
        self.commits.insert(name.clone(), tree);
        self.branches.insert(branch.into(), name.clone());
        self.titles.push(title.into());
        name
    }

    fn commit(&self, revision: &str) -> Option<&String> {
        self.branches.get(revision).or_else(|| self.commits.get_key_value(revision).map(|(name, _)| name))
    }
}

impl State {
    fn content<'a>(&'a self, file: &'a File) -> &'a [u8] {
        match file {
            File::Whole(bytes) => bytes,
            File::Large(name) => &self.large[name],
        }
    }

    fn make(&mut self, repo: &str, is_private: bool, sdk: &str) {
        let mut made = Repo { is_private, sdk: sdk.into(), ..Repo::default() };
        let attributes = File::Whole(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n".to_vec());
        made.add("main", Tree::from([(".gitattributes".into(), attributes)]), "initial commit");
        self.repos.insert(repo.into(), made);
    }
}

/// An answer: status, headers, content.
struct Answer(u16, Vec<(&'static str, String)>, Vec<u8>);

fn said(json: &Value) -> Answer {
    Answer(200, vec![("Content-Type", "application/json".into())], json.to_string().into_bytes())
}

fn refused(status: u16, code: &str, sentence: &str) -> Answer {
    let headers = if code.is_empty() { vec![] } else { vec![("X-Error-Code", code.to_owned())] };
    Answer(status, headers, json!({ "error": sentence }).to_string().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn git_name(bytes: &[u8]) -> String {
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex(&hash.finalize())
}

/// A request.
struct Request {
    method: String,
    path: String,
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn serve(mut stream: TcpStream, state: &mut State, endpoint: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = (&mut reader).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    let line = format!("{} {}", request.method, request.path);
    state.log.push(line.clone());
    let fault = state.faults.iter().position(|(part, _)| line.contains(part)).map(|at| state.faults.remove(at).1);
    let Answer(status, headers, mut content) = match fault {
        Some(Fault::Status(status)) => refused(status, "", "told to"),
        Some(Fault::Overtaken) => refused(412, "", "A commit has happened since"),
        Some(Fault::Lost) => {
            answer(state, &request, endpoint);
            refused(504, "", "a gateway gave up")
        }
        _ => answer(state, &request, endpoint),
    };
    if matches!(fault, Some(Fault::Damages)) {
        let middle = content.len() / 2;
        content[middle] ^= 1;
    }
    write!(stream, "HTTP/1.1 {status} Said\r\nConnection: close\r\nContent-Length: {}\r\n", content.len())?;
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "\r\n")?;
    if matches!(fault, Some(Fault::Breaks)) {
        content.truncate(content.len() / 2);
    }
    if request.method == "HEAD" { Ok(()) } else { stream.write_all(&content) }
}

fn answer(state: &mut State, request: &Request, endpoint: &str) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let steps: Vec<String> = path
        .trim_start_matches('/')
        .split('/')
        .map(|step| percent_decode_str(step).decode_utf8_lossy().into())
        .collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    if request.token().is_some_and(|token| ![WRITES, READS].contains(&token)) {
        return refused(401, "", &format!("Invalid credentials {}", request.token().unwrap_or_default()));
    }
    match (request.method.as_str(), steps.as_slice()) {
        ("POST", ["api", "repos", "create"]) => create(state, request),
        (_, ["api", "resolve-cache", kind, owner, name, commit, file @ ..]) => {
            resolve(state, request, &format!("{kind}/{owner}/{name}"), commit, &file.join("/"), None)
        }
        (_, ["api", kind, owner, name, verb, revision]) => {
            interface(state, request, &format!("{kind}/{owner}/{name}"), verb, revision, query)
        }
        ("POST", [.., owner, name, "info", "lfs", "objects", "batch"]) => {
            let kind = if steps[0] == "spaces" { "spaces" } else { "models" };
            batch(state, request, &format!("{kind}/{owner}/{}", name.trim_end_matches(".git")), endpoint)
        }
        ("PUT", ["store", name]) => {
            // The store is another host, which must not see the token.
            let found = hex(&Sha256::digest(&request.body));
            if request.token().is_some() || found != **name {
                return refused(400, "", "not what was announced");
            }
            state.large.insert(found, request.body.clone());
            Answer(200, vec![], vec![])
        }
        ("POST", ["verify"]) => {
            let asked = request.json();
            let stored = state.large.get(asked["oid"].as_str().unwrap()).map(Vec::len);
            if stored.map(|size| size as u64) == asked["size"].as_u64() {
                said(&json!({}))
            } else {
                refused(404, "", "gone")
            }
        }
        ("GET", ["cdn", name]) => match request.token() {
            None => ranged(request, &state.large[*name]),
            Some(_) => refused(400, "", "a token of others"),
        },
        (_, ["spaces", owner, name, "resolve", revision, file @ ..]) => {
            resolve(state, request, &format!("spaces/{owner}/{name}"), revision, &file.join("/"), Some(endpoint))
        }
        (_, [owner, name, "resolve", revision, file @ ..]) => {
            resolve(state, request, &format!("models/{owner}/{name}"), revision, &file.join("/"), Some(endpoint))
        }
        _ => refused(404, "", "no such address"),
    }
}

/// The part of a content that is asked for.
fn ranged(request: &Request, content: &[u8]) -> Answer {
    let from = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    let from = from.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok());
    match from {
        None => Answer(200, vec![], content.to_vec()),
        Some(from) if from < content.len() => Answer(206, vec![], content[from..].to_vec()),
        Some(_) => Answer(416, vec![], vec![]),
    }
}

/// Whether this user may see the repository; the hub says the same of repositories that are not there.
fn hidden(state: &State, request: &Request, repo: &str) -> Option<Answer> {
    let seen = state.repos.get(repo).is_some_and(|repo| !repo.is_private || request.token().is_some());
    let status = if request.token().is_some() { 404 } else { 401 };
    (!seen).then(|| refused(status, "RepoNotFound", "Repository not found"))
}

fn may_write(request: &Request, repo: &str) -> Option<Answer> {
    match request.token() {
        Some(WRITES) if repo.split('/').nth(1) == Some("acme") => None,
        Some(_) => Some(refused(403, "", "You don't have the rights to write here")),
        None => Some(refused(401, "", "Unauthorized")),
    }
}

fn resolve(state: &State, request: &Request, repo: &str, revision: &str, path: &str, endpoint: Option<&str>) -> Answer {
    if let Some(hidden) = hidden(state, request, repo) {
        return hidden;
    }
    let Some(commit) = state.repos[repo].commit(revision) else {
        return refused(404, "RevisionNotFound", "Invalid rev id");
    };
    let Some(file) = state.repos[repo].commits[commit].get(path) else {
        return refused(404, "EntryNotFound", "Entry not found");
    };
    let content = state.content(file);
    let mut headers = vec![("X-Repo-Commit", commit.clone()), ("ETag", format!("\"{}\"", git_name(content)))];
    match (file, endpoint) {
        // Large files lie on another host.
        (File::Large(name), Some(endpoint)) => {
            headers.push(("X-Linked-ETag", format!("\"{name}\"")));
            headers.push(("X-Linked-Size", content.len().to_string()));
            headers.push(("Location", format!("{}/cdn/{name}", endpoint.replace("127.0.0.1", "localhost"))));
            Answer(302, headers, vec![])
        }
        (File::Whole(_), Some(_)) => {
            headers.push(("Location", format!("/api/resolve-cache/{repo}/{commit}/{path}")));
            Answer(307, headers, vec![])
        }
        _ => {
            let Answer(status, _, content) = ranged(request, content);
            Answer(status, headers, content)
        }
    }
}

fn create(state: &mut State, request: &Request) -> Answer {
    let wish = request.json();
    let text = |key: &str| wish[key].as_str().unwrap_or_default().to_owned();
    let repo = format!("{}s/{}/{}", text("type"), text("organization"), text("name"));
    if let Some(refused) = may_write(request, &repo) {
        return refused;
    }
    if state.repos.contains_key(&repo) {
        return refused(409, "", "You already created this repo");
    }
    state.make(&repo, text("visibility") == "private", &text("sdk"));
    said(&json!({ "url": repo }))
}

fn interface(state: &mut State, request: &Request, repo: &str, verb: &str, revision: &str, query: &str) -> Answer {
    if let Some(hidden) = hidden(state, request, repo) {
        return hidden;
    }
    if request.method == "POST"
        && let Some(refused) = may_write(request, repo)
    {
        return refused;
    }
    if verb == "branch" {
        let repo = state.repos.get_mut(repo).unwrap();
        let main = repo.branches["main"].clone();
        repo.branches.insert(revision.into(), main);
        return Answer(201, vec![], b"{}".to_vec());
    }
    let Some(commit) = state.repos[repo].commit(revision).cloned() else {
        return refused(404, "RevisionNotFound", "Invalid rev id");
    };
    let tree = &state.repos[repo].commits[&commit];
    match verb {
        "revision" => said(&json!({"id": repo, "sha": commit, "siblings": []})),
        "commits" => said(&state.repos[repo].titles.iter().map(|title| json!({ "title": title })).collect()),
        "tree" => {
            let entry = |(path, file): (&String, &File)| {
                let content = state.content(file);
                let mut entry = json!({"type": "file", "path": path, "size": content.len(), "oid": git_name(content)});
                if let File::Large(name) = file {
                    entry["lfs"] = json!({"oid": name, "size": content.len(), "pointerSize": 133});
                }
                entry
            };
            let from = query.split("cursor=").nth(1).and_then(|from| from.parse().ok()).unwrap_or(0);
            let page: Vec<Value> = tree.iter().skip(from).take(PAGE).map(entry).collect();
            let Answer(status, mut headers, content) = said(&page.into());
            if from + PAGE < tree.len() {
                // The hub names itself, also behind a mirror.
                let next =
                    format!("https://huggingface.co/api/{repo}/tree/{revision}?recursive=true&cursor={}", from + PAGE);
                headers.push(("Link", format!("<{next}>; rel=\"next\"")));
            }
            Answer(status, headers, content)
        }
        "preupload" => {
            let asked = request.json();
            let modes = asked["files"].as_array().unwrap().iter().map(|file| {
                let path = file["path"].as_str().unwrap();
                assert!(BASE64_STANDARD.decode(file["sample"].as_str().unwrap()).unwrap().len() <= 512);
                let by_name = [".safetensors", ".wasm", ".gz", ".png"].iter().any(|end| path.ends_with(end));
                let is_large = by_name || file["size"].as_u64().unwrap() > LARGE as u64;
                let mode = if is_large { "lfs" } else { "regular" };
                json!({"path": path, "uploadMode": mode, "shouldIgnore": false})
            });
            said(&json!({ "files": modes.collect::<Vec<_>>() }))
        }
        "commit" => add(state, request, repo, revision, &commit),
        _ => refused(404, "", "no such verb"),
    }
}

fn batch(state: &State, request: &Request, repo: &str, endpoint: &str) -> Answer {
    if let Some(refused) = hidden(state, request, repo).or_else(|| may_write(request, repo)) {
        return refused;
    }
    let asked = request.json();
    assert!(asked["transfers"].as_array().unwrap().contains(&"basic".into()), "{asked}");
    let objects = asked["objects"].as_array().unwrap().iter().map(|object| {
        let name = object["oid"].as_str().unwrap();
        let mut known = json!({"oid": name, "size": object["size"]});
        if !state.large.contains_key(name) {
            let store = endpoint.replace("127.0.0.1", "localhost");
            known["actions"] = json!({
                "upload": {"href": format!("{store}/store/{name}")},
                // The hub names itself, also behind a mirror.
                "verify": {"href": "https://huggingface.co/verify"},
            });
        }
        known
    });
    said(&json!({"transfer": "basic", "objects": objects.collect::<Vec<_>>()}))
}

/// A commit, whose paths must not be there twice, and whose large contents must have been sent.
fn add(state: &mut State, request: &Request, repo: &str, branch: &str, head: &str) -> Answer {
    assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
    let text = std::str::from_utf8(&request.body).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["key"], "header");
    if lines[0]["value"]["parentCommit"].as_str().is_some_and(|parent| parent != head) {
        return refused(412, "", "A commit has happened since");
    }
    let mut tree = state.repos[repo].commits[head].clone();
    let mut named = BTreeSet::new();
    for line in &lines[1..] {
        let (value, path) = (&line["value"], line["value"]["path"].as_str().unwrap().to_owned());
        assert!(named.insert(path.clone()), "{path} twice");
        match line["key"].as_str().unwrap() {
            "file" => {
                let content = BASE64_STANDARD.decode(value["content"].as_str().unwrap()).unwrap();
                assert!(content.len() <= LARGE);
                tree.insert(path, File::Whole(content));
            }
            "lfsFile" => {
                let name = value["oid"].as_str().unwrap().to_owned();
                if !state.large.contains_key(&name) {
                    return refused(400, "", "the content was not sent");
                }
                tree.insert(path, File::Large(name));
            }
            "deletedFile" => {
                if tree.remove(&path).is_none() {
                    return refused(404, "EntryNotFound", "A file with this name doesn't exist");
                }
            }
            other => panic!("{other}"),
        }
    }
    let title = lines[0]["value"]["summary"].as_str().unwrap().to_owned();
    let commit = state.repos.get_mut(repo).unwrap().add(branch, tree, &title);
    said(&json!({"success": true, "commitOid": commit, "commitUrl": "x"}))
}
