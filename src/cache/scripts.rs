//! The Redis commands: each operation is one command, which Redis executes atomically.
//!
//! A value and a lease start with the 16 bytes of their epoch. A script accesses only the names in its key list.

use super::{Result, connection::RedisConnection, names::Names, settings::EPOCH_LIFETIME};
use redis::Cmd;
use std::sync::Arc;

/// Bytes of an epoch and of a token.
const ID_BYTES: usize = 16;

/// Identifies the right to compute a value and to store it.
pub(super) type ComputeToken = [u8; ID_BYTES];

/// What Redis contains for a key.
pub(super) enum CacheState {
    /// The JSON.
    Value(Vec<u8>),
    /// No value; if there is a token, a computation is running.
    Missing { token: Option<ComputeToken> },
}

/// The result of a request for the right to compute.
pub(super) enum Taken {
    /// The request was granted: epoch and token.
    Lease(Vec<u8>),
    /// A value exists now.
    Value(Vec<u8>),
    /// Another process has the right.
    Held,
}

const SET: &str = "local e = redis.call('GET', KEYS[1])
if not e or #e ~= 16 then e = ARGV[1] end
redis.call('SET', KEYS[1], e, 'PX', ARGV[2])
redis.call('SET', KEYS[2], e .. ARGV[4], 'PX', ARGV[3])
redis.call('DEL', KEYS[3])
return 1";

const TAKE: &str = "local e = redis.call('GET', KEYS[1])
if not e or #e ~= 16 then
    e = ARGV[1]
    redis.call('SET', KEYS[1], e, 'PX', ARGV[2])
end
local v = redis.call('GET', KEYS[2])
if v and ARGV[5] == '0' and string.sub(v, 1, 16) == e then return {1, string.sub(v, 17)} end
local l = redis.call('GET', KEYS[3])
if l and string.sub(l, 1, 16) == e and string.sub(l, 17) ~= ARGV[3] then return {2, ''} end
redis.call('SET', KEYS[3], e .. ARGV[3], 'PX', ARGV[4])
return {0, e .. ARGV[3]}";

const STORE: &str = "local e = string.sub(ARGV[1], 1, 16)
if redis.call('GET', KEYS[3]) ~= ARGV[1] or redis.call('GET', KEYS[1]) ~= e then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], e .. ARGV[4], 'PX', ARGV[3])
redis.call('DEL', KEYS[3])
return 1";

const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

pub(super) async fn read_state(connection: &Arc<RedisConnection>, names: &Names) -> Result<CacheState> {
    let mut cmd = redis::cmd("MGET");
    cmd.arg(&names.epoch).arg(&names.value).arg(&names.lease);
    let [epoch, value, lease]: [Option<Vec<u8>>; 3] = connection.run(cmd).await?;
    let Some(epoch) = epoch.filter(|epoch| epoch.len() == ID_BYTES) else {
        return Ok(CacheState::Missing { token: None });
    };
    let of_epoch = |bytes: Option<Vec<u8>>| {
        let mut bytes = bytes.filter(|bytes| bytes.starts_with(&epoch))?;
        Some(bytes.split_off(ID_BYTES))
    };
    match of_epoch(value) {
        Some(json) => Ok(CacheState::Value(json)),
        None => Ok(CacheState::Missing { token: of_epoch(lease).and_then(|token| token.try_into().ok()) }),
    }
}

pub(super) async fn set(connection: &Arc<RedisConnection>, names: &Names, json: &[u8], lifetime_ms: u64) -> Result<()> {
    let mut cmd = on_names(SET, names);
    cmd.arg(&new_id()[..]).arg(epoch_ms()).arg(lifetime_ms).arg(json);
    connection.run(cmd).await
}

pub(super) async fn delete(connection: &Arc<RedisConnection>, names: &Names) -> Result<()> {
    let mut cmd = redis::cmd("DEL");
    cmd.arg(&names.value).arg(&names.lease);
    connection.run(cmd).await
}

pub(super) async fn flush(connection: &Arc<RedisConnection>, epoch: &str) -> Result<()> {
    let mut cmd = redis::cmd("DEL");
    cmd.arg(epoch);
    connection.run(cmd).await
}

/// Requests the right to compute; `over` says that an existing value does not count.
pub(super) async fn take(
    connection: &Arc<RedisConnection>,
    names: &Names,
    token: &ComputeToken,
    lease_ms: u64,
    over: bool,
) -> Result<Taken> {
    let mut cmd = on_names(TAKE, names);
    cmd.arg(&new_id()[..]).arg(epoch_ms()).arg(&token[..]).arg(lease_ms).arg(u8::from(over));
    let (outcome, bytes): (i64, Vec<u8>) = connection.run(cmd).await?;
    Ok(match outcome {
        0 => Taken::Lease(bytes),
        1 => Taken::Value(bytes),
        _ => Taken::Held,
    })
}

/// Stores the computed value, unless the lease was lost: it expired, or the key was set, deleted or flushed.
pub(super) async fn store(
    connection: &Arc<RedisConnection>,
    names: &Names,
    lease: &[u8],
    json: &[u8],
    lifetime_ms: u64,
) -> Result<bool> {
    let mut cmd = on_names(STORE, names);
    cmd.arg(lease).arg(epoch_ms()).arg(lifetime_ms).arg(json);
    connection.run(cmd).await
}

/// Releases a lease.
pub(super) async fn release(connection: &Arc<RedisConnection>, name: &str, lease: &[u8]) -> Result<()> {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(RELEASE).arg(1).arg(name).arg(lease);
    connection.run(cmd).await
}

/// Returns a script with the three names of a key.
fn on_names(script: &str, names: &Names) -> Cmd {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(script).arg(3).arg(&names.epoch).arg(&names.value).arg(&names.lease);
    cmd
}

/// Returns a random epoch or token.
pub(super) fn new_id() -> ComputeToken {
    rand::random()
}

fn epoch_ms() -> u64 {
    u64::try_from(EPOCH_LIFETIME.as_millis()).unwrap_or(u64::MAX)
}
