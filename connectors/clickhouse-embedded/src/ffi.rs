//! libchdb's C functions: the only unsafe code of the crate.
//!
//! In: a path to `libchdb.so`. Out: owned handles that are closed exactly once and whose use is checked by lifetimes:
//! a [`Rows`] or an [`Insert`] borrows its [`Connection`] mutably, so nothing else can run on it meanwhile, and a
//! result's bytes are copied before the result is destroyed. The engine takes one call at a time per connection and
//! does not care which thread makes it, so the handles may be sent, not shared.
//!
//! Closing the last connection stops the engine and frees its folder; `chdb_shutdown` is not called, since after it the
//! process can open no engine any more.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use crate::exception::Exception;

/// What the engine makes of a statement (`chdb_query_analysis_v1`).
#[repr(C)]
#[derive(Default)]
struct Analysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// `CHDB_QUERY_READ_ONLY`.
const CLASS_READ_ONLY: u32 = 0;

type Handle = *mut c_void;
type Text = *const u8;
/// Connection, query, its length, format, its length.
type Query = unsafe extern "C" fn(Handle, Text, usize, Text, usize) -> Handle;
/// The same with parameters: names, their lengths, values, their lengths, how many.
type QueryWithParams = unsafe extern "C" fn(
    Handle,
    Text,
    usize,
    Text,
    usize,
    *const Text,
    *const usize,
    *const Text,
    *const usize,
    usize,
) -> Handle;

macro_rules! functions {
    ($($field:ident = $name:literal : $type:ty),+ $(,)?) => {
        /// The engine's functions, looked up once.
        pub(crate) struct Api { $($field: $type),+ }

        impl Api {
            fn look_up(library: &libloading::Library) -> Result<Self, libloading::Error> {
                // SAFETY: the signatures are those of libchdb 26.7's C header; every one is plain C.
                unsafe { Ok(Self { $($field: *library.get::<$type>(concat!($name, "\0"))?),+ }) }
            }
        }
    };
}

functions! {
    connect = "chdb_connect": unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut Handle,
    close = "chdb_close_conn": unsafe extern "C" fn(*mut Handle),
    set_signal_handlers = "chdb_set_signal_handlers_enabled": unsafe extern "C" fn(c_int),
    classify = "chdb_classify_query_n": unsafe extern "C" fn(Handle, Text, usize, Text, usize, *mut Analysis) -> c_int,
    query = "chdb_query_with_params_n": QueryWithParams,
    stream_query = "chdb_stream_query_with_params_n": QueryWithParams,
    stream_fetch = "chdb_stream_fetch_result": unsafe extern "C" fn(Handle, Handle) -> Handle,
    stream_cancel = "chdb_stream_cancel_query": unsafe extern "C" fn(Handle, Handle),
    insert = "chdb_stream_insert_n": Query,
    insert_with_params = "chdb_stream_insert_with_params_n": QueryWithParams,
    insert_append = "chdb_stream_append": unsafe extern "C" fn(Handle, Text, usize) -> c_int,
    insert_done = "chdb_stream_done": unsafe extern "C" fn(Handle) -> Handle,
    insert_cancel = "chdb_stream_cancel_insert": unsafe extern "C" fn(Handle),
    insert_error = "chdb_stream_insert_error": unsafe extern "C" fn(Handle) -> *const c_char,
    insert_destroy = "chdb_destroy_insert_stream": unsafe extern "C" fn(Handle),
    result_buffer = "chdb_result_buffer": unsafe extern "C" fn(Handle) -> Text,
    result_length = "chdb_result_length": unsafe extern "C" fn(Handle) -> usize,
    result_error = "chdb_result_error": unsafe extern "C" fn(Handle) -> *const c_char,
    result_rows_read = "chdb_result_rows_read": unsafe extern "C" fn(Handle) -> u64,
    result_bytes_read = "chdb_result_bytes_read": unsafe extern "C" fn(Handle) -> u64,
    result_rows_written = "chdb_result_rows_written": unsafe extern "C" fn(Handle) -> u64,
    result_bytes_written = "chdb_result_bytes_written": unsafe extern "C" fn(Handle) -> u64,
    result_destroy = "chdb_destroy_query_result": unsafe extern "C" fn(Handle),
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("libchdb")
    }
}

impl Api {
    /// Loads the library, for good: unloading an engine whose threads may still run is not safe, so it stays mapped.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, libloading::Error> {
        // SAFETY: libchdb's initialisers are those of a C++ library made for being loaded so (its own bindings do).
        let library = unsafe { libloading::Library::new(path)? };
        let api = Self::look_up(&library)?;
        std::mem::forget(library);
        // SAFETY: takes a plain integer; called before the first connection. The host process keeps its own handlers.
        unsafe { (api.set_signal_handlers)(0) };
        Ok(Arc::new(api))
    }

    /// The message behind a pointer that is null or a C string which lives as long as its owner, which the caller holds.
    fn message(message: *const c_char) -> Option<Exception> {
        if message.is_null() {
            return None;
        }
        // SAFETY: not null, and by the C API's contract NUL-terminated and alive until its owner is destroyed.
        let text = unsafe { CStr::from_ptr(message) };
        Some(Exception::from_engine(&text.to_string_lossy()))
    }

    /// Copies what a result holds and destroys it.
    fn take(&self, result: Handle) -> Result<Answer, Exception> {
        if result.is_null() {
            return Err(Exception::engine_said_nothing());
        }
        // SAFETY: `result` is a live result handle owned by this function; the buffer holds `length` bytes until the
        // result is destroyed, and both the bytes and the message are copied before that.
        unsafe {
            let error = Self::message((self.result_error)(result));
            let answer = error.map_or_else(
                || {
                    let (buffer, length) = ((self.result_buffer)(result), (self.result_length)(result));
                    let empty = buffer.is_null() || length == 0;
                    let bytes =
                        if empty { Vec::new() } else { std::slice::from_raw_parts(buffer, length).to_vec() };
                    Ok(Answer {
                        bytes,
                        rows_read: (self.result_rows_read)(result),
                        bytes_read: (self.result_bytes_read)(result),
                        rows_written: (self.result_rows_written)(result),
                        bytes_written: (self.result_bytes_written)(result),
                    })
                },
                Err,
            );
            (self.result_destroy)(result);
            answer
        }
    }
}

/// A finished result: its bytes in the format asked for, and what it took.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rows_read: u64,
    pub(crate) bytes_read: u64,
    pub(crate) rows_written: u64,
    pub(crate) bytes_written: u64,
}

/// What a statement is, before it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Class {
    pub(crate) statements: u32,
    pub(crate) read_only: bool,
}

/// A parameter of a query: its name and its value, escaped as ClickHouse's HTTP interface takes it.
pub(crate) type Param = (String, Vec<u8>);

/// Pointers into a list of parameters, in the shape that the C API takes.
struct ParamPointers {
    names: Vec<Text>,
    name_lengths: Vec<usize>,
    values: Vec<Text>,
    value_lengths: Vec<usize>,
}

impl ParamPointers {
    fn of(params: &[Param]) -> Self {
        Self {
            names: params.iter().map(|(name, _)| name.as_ptr()).collect(),
            name_lengths: params.iter().map(|(name, _)| name.len()).collect(),
            values: params.iter().map(|(_, value)| value.as_ptr()).collect(),
            value_lengths: params.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

/// One connection: settings, current database and temporary tables of its own.
pub(crate) struct Connection {
    raw: *mut Handle,
    api: Arc<Api>,
}

// SAFETY: the engine binds nothing to the thread that opened a connection; exclusive use is by `&mut`.
unsafe impl Send for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Opens a connection to the engine on a data folder; the first one of a process starts the engine. None if it
    /// would not start: it writes the reason to standard error.
    pub(crate) fn open(api: &Arc<Api>, data_path: &Path) -> Option<Self> {
        let mut path = b"--path=".to_vec();
        path.extend_from_slice(data_path.as_os_str().as_bytes());
        let args = [CString::from(c"clickhouse"), CString::new(path).ok()?];
        let mut argv: Vec<*mut c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
        let argc = c_int::try_from(argv.len()).ok()?;
        // SAFETY: argv holds argc NUL-terminated strings that outlive the call; the engine copies them.
        let raw = unsafe { (api.connect)(argc, argv.as_mut_ptr()) };
        // SAFETY: a connection pointer that is not null points at its handle.
        if raw.is_null() || unsafe { (*raw).is_null() } {
            return None;
        }
        Some(Self { raw, api: Arc::clone(api) })
    }

    fn handle(&self) -> Handle {
        // SAFETY: `raw` was checked when it was opened and stays valid until `drop`.
        unsafe { *self.raw }
    }

    /// What a statement is, without running it.
    pub(crate) fn classify(&mut self, query: &[u8]) -> Option<Class> {
        let mut analysis = Analysis { struct_size: 16, ..Analysis::default() };
        // SAFETY: pointers and lengths are of live slices; `struct_size` says how much may be written.
        let state = unsafe {
            (self.api.classify)(self.handle(), query.as_ptr(), query.len(), ptr::null(), 0, &raw mut analysis)
        };
        (state == 0).then_some(Class {
            statements: analysis.statement_count,
            read_only: analysis.query_class == CLASS_READ_ONLY,
        })
    }

    fn run(&mut self, run: QueryWithParams, query: &[u8], format: &str, params: &[Param]) -> Handle {
        let pointers = ParamPointers::of(params);
        // SAFETY: all pointers and lengths are of slices that outlive the call; the engine copies what it keeps.
        unsafe {
            run(
                self.handle(),
                query.as_ptr(),
                query.len(),
                format.as_ptr(),
                format.len(),
                pointers.names.as_ptr(),
                pointers.name_lengths.as_ptr(),
                pointers.values.as_ptr(),
                pointers.value_lengths.as_ptr(),
                params.len(),
            )
        }
    }

    /// Runs a query and gives its whole result.
    pub(crate) fn query(
        &mut self,
        query: &[u8],
        format: &str,
        params: &[Param],
    ) -> Result<Answer, Exception> {
        let result = self.run(self.api.query, query, format, params);
        self.api.take(result)
    }

    /// Runs a SELECT whose result is fetched piece by piece.
    pub(crate) fn rows(
        &mut self,
        query: &[u8],
        format: &str,
        params: &[Param],
    ) -> Result<Rows<'_>, Exception> {
        let raw = self.run(self.api.stream_query, query, format, params);
        if raw.is_null() {
            return Err(Exception::engine_said_nothing());
        }
        // SAFETY: a live result handle; its message is copied.
        let error = Api::message(unsafe { (self.api.result_error)(raw) });
        if let Some(error) = error {
            // SAFETY: destroyed once, here: no `Rows` is made of it.
            unsafe { (self.api.result_destroy)(raw) };
            return Err(error);
        }
        Ok(Rows { connection: self, raw, ended: false })
    }

    /// Begins an insert whose data is appended piece by piece.
    pub(crate) fn insert(
        &mut self,
        head: &[u8],
        format: &str,
        params: &[Param],
    ) -> Result<Insert<'_>, Exception> {
        let raw = if params.is_empty() {
            // SAFETY: pointers and lengths are of slices that outlive the call.
            unsafe {
                (self.api.insert)(self.handle(), head.as_ptr(), head.len(), format.as_ptr(), format.len())
            }
        } else {
            self.run(self.api.insert_with_params, head, format, params)
        };
        if raw.is_null() {
            return Err(Exception::engine_said_nothing());
        }
        let insert = Insert { connection: self, raw, ended: false };
        match insert.error() {
            // Not begun, so there is nothing to cancel; dropping it only destroys the handle.
            Some(error) => {
                let mut insert = insert;
                insert.ended = true;
                Err(error)
            }
            None => Ok(insert),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, closed once, here; borrowing handles can't outlive it.
        unsafe { (self.api.close)(self.raw) }
    }
}

/// A SELECT that runs: every piece is a whole document of the format asked for. Dropped early, it is cancelled.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    connection: &'a mut Connection,
    raw: Handle,
    ended: bool,
}

impl Rows<'_> {
    /// The next piece, or None at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, Exception> {
        if self.ended {
            return Ok(None);
        }
        // SAFETY: both handles are live and used by this thread alone.
        let piece = unsafe { (self.connection.api.stream_fetch)(self.connection.handle(), self.raw) };
        match self.connection.api.take(piece) {
            Ok(answer) if answer.bytes.is_empty() => {
                self.ended = true;
                Ok(None)
            }
            Ok(answer) => Ok(Some(answer.bytes)),
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live; cancelled only while it still runs, destroyed once.
        unsafe {
            if !self.ended {
                (self.connection.api.stream_cancel)(self.connection.handle(), self.raw);
            }
            (self.connection.api.result_destroy)(self.raw);
        }
    }
}

/// An insert that runs. Dropped before [`Insert::done`], it is cancelled and leaves nothing of its current block.
#[derive(Debug)]
pub(crate) struct Insert<'a> {
    connection: &'a mut Connection,
    raw: Handle,
    ended: bool,
}

impl Insert<'_> {
    fn error(&self) -> Option<Exception> {
        // SAFETY: a live insert handle; the message is copied.
        Api::message(unsafe { (self.connection.api.insert_error)(self.raw) })
    }

    /// Appends a piece of the data, cut anywhere.
    pub(crate) fn append(&mut self, data: &[u8]) -> Result<(), Exception> {
        // SAFETY: a live insert handle; pointer and length are of a live slice, which the engine copies.
        let state = unsafe { (self.connection.api.insert_append)(self.raw, data.as_ptr(), data.len()) };
        if state == 0 { Ok(()) } else { Err(self.error().unwrap_or_else(Exception::engine_said_nothing)) }
    }

    /// Ends the data: with `Ok` every row is stored.
    pub(crate) fn done(mut self) -> Result<Answer, Exception> {
        self.ended = true;
        // SAFETY: a live insert handle, ended once; the handle itself is destroyed by `drop`.
        let result = unsafe { (self.connection.api.insert_done)(self.raw) };
        self.connection.api.take(result)
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live; cancelled only while it still runs, destroyed once.
        unsafe {
            if !self.ended {
                (self.connection.api.insert_cancel)(self.raw);
            }
            (self.connection.api.insert_destroy)(self.raw);
        }
    }
}
