//! What the server does in one step. A script is not undone where it stops, so each looks at everything before it writes, its first write
//! is one that a full server refuses, and what makes a commit be there is written last and all at once.
//!
//! Versions are numbers of Lua, which are whole up to 2⁵³. Every key that a script touches is among its `KEYS`.

use std::sync::LazyLock;

/// A script, and the digest by which a server that has it knows it.
#[derive(Debug)]
pub(crate) struct Script {
    pub source: &'static str,
    pub digest: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, digest: redis::Script::new(source).get_hash().to_owned() }
    }
}

/// Adds a run: answers how many of its commits are there, and why it stopped. The contract's numbers 1, 4 and 5 as `judge` has them.
///
/// `KEYS`: the log, the names of its bucket, and for each large body the key of its parts and the one that they get.
/// `ARGV`: the first version, the hash before it, how many commits, the hash of the last, the log's name; then of each commit the header, what
/// its body is (`b` here, `k` in parts, or nothing) and the body, or the name of its parts, its length and their number.
///
/// One commit behind the head, which most are, goes a short way: of 22 µs a commit the long one spends most on its tables.
pub(crate) static CREATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local log, first, count = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[3])
local function version(i) return string.format('%.0f', first + i) end
local ends = redis.call('HMGET', log, 'n', 'v', 'p')
local boundary, head = tonumber(ends[1] or 0), tonumber(ends[2] or 0)
if first <= boundary then return {0, 'closed', ends[1]} end
if count == 1 and head > 0 and first == head + 1 and ARGV[2] == ends[3] and ARGV[7] == 'b' then
  redis.call('HSET', log, 'h' .. ARGV[1], ARGV[6], 'b' .. ARGV[1], ARGV[8], 'p', ARGV[4], 'v', ARGV[1])
  return {1, 'done'}
end
local here = 0
while here < count and first + here <= head do
  local found = redis.call('HGET', log, 'h' .. version(here))
  if not found then return {here, 'missing'} end
  if found ~= ARGV[6 + 3 * here] then return {here, 'taken'} end
  here = here + 1
end
if here == count then
  redis.call('HDEL', log, '')
  redis.call('HSET', log, 'v', ends[2])
  return {here, 'done'}
end
if here == 0 then
  if head > 0 and (first ~= head + 1 or ARGV[2] ~= ends[3]) then return {0, 'gap'} end
  if head == 0 and first ~= boundary + 1 then return {0, 'gap'} end
end
local fields, moved, key = {}, {}, 3
for i = 0, count - 1 do
  local header, kind, body = ARGV[6 + 3 * i], ARGV[7 + 3 * i], ARGV[8 + 3 * i]
  if i >= here then
    fields[#fields + 1] = 'h' .. version(i)
    fields[#fields + 1] = header
    if kind ~= '' then
      fields[#fields + 1] = kind .. version(i)
      fields[#fields + 1] = body
    end
    if kind == 'k' then
      if redis.call('HLEN', KEYS[key]) ~= tonumber(string.match(body, '%d+$')) then return {here, 'unstaged'} end
      moved[#moved + 1] = key
    end
  end
  if kind == 'k' then key = key + 2 end
end
if head == 0 then
  fields[#fields + 1] = 's'
  fields[#fields + 1] = string.format('%.0f', boundary)
  redis.call('ZADD', KEYS[2], 0, ARGV[5])
end
for _, key in ipairs(moved) do
  redis.call('PERSIST', KEYS[key])
  redis.call('RENAME', KEYS[key], KEYS[key + 1])
end
fields[#fields + 1] = 'p'
fields[#fields + 1] = ARGV[4]
fields[#fields + 1] = 'v'
fields[#fields + 1] = version(count - 1)
redis.call('HSET', log, unpack(fields))
return {count, 'done'}
",
    )
});

/// Adds to each of several logs one commit behind its head, and answers the places of the logs to which it did not: they are sent to
/// [`CREATE`] one by one, which says why. What is wrong with one log, as a key of another type, is nothing to the others.
///
/// `KEYS`: the logs. `ARGV`, of each: the version before, its hash, the version, its hash, the header and the body.
pub(crate) static CREATE_TOGETHER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local call, pcall, left = redis.call, redis.pcall, {}
for i, log in ipairs(KEYS) do
  local at = 6 * i
  local ends, version = pcall('HMGET', log, 'n', 'v', 'p'), ARGV[at - 3]
  if not ends.err and ends[2] == ARGV[at - 5] and ends[3] == ARGV[at - 4] and tonumber(ends[1] or 0) < tonumber(version) then
    call('HSET', log, 'h' .. version, ARGV[at - 1], 'b' .. version, ARGV[at], 'p', ARGV[at - 2], 'v', version)
  else
    left[#left + 1] = i
  end
end
return left
",
    )
});

/// A page: the boundary, the head, and of each commit the header, the body here, and the name of its parts.
///
/// `ARGV`: the first version, the most commits, the most bytes, and `1` if bodies are wanted.
pub(crate) static PAGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local log, at, most, most_bytes = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ends = redis.call('HMGET', log, 'n', 'v')
local boundary, head = tonumber(ends[1] or 0), tonumber(ends[2] or 0)
local page, count, bytes = {ends[1] or '0', ends[2] or '0'}, 0, 0
while at > boundary and at <= head and count < most and (count == 0 or bytes < most_bytes) do
  local version = string.format('%.0f', at)
  local found
  if ARGV[4] == '1' then
    found = redis.call('HMGET', log, 'h' .. version, 'b' .. version, 'k' .. version)
  else
    found = redis.call('HMGET', log, 'h' .. version)
  end
  if not found[1] then break end
  bytes = bytes + #found[1] - 4
  if found[2] then bytes = bytes + #found[2] - 4 end
  if found[3] then bytes = bytes + tonumber(string.match(found[3], ':(%d+):')) end
  for i = 1, 3 do page[#page + 1] = found[i] or '' end
  at, count = at + 1, count + 1
end
return page
",
    )
});

/// The boundary, the head, and its header.
pub(crate) static HEAD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local ends = redis.call('HMGET', KEYS[1], 'n', 'v')
if not ends[2] then return {ends[1] or '0', '0', ''} end
return {ends[1] or '0', ends[2], redis.call('HGET', KEYS[1], 'h' .. ends[2]) or ''}
",
    )
});

/// Raises the boundary. Deleting a field that is not there is what a full server allows, and with it all that follows.
pub(crate) static CLOSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local through = tonumber(ARGV[1])
local ends = redis.call('HMGET', KEYS[1], 'n', 'v')
local boundary, head = tonumber(ends[1] or 0), tonumber(ends[2] or 0)
if head > 0 and through >= head then return 'head' end
redis.call('HDEL', KEYS[1], '')
redis.call('HSET', KEYS[1], 'n', string.format('%.0f', math.max(boundary, through)))
return 'done'
",
    )
});

/// Deletes what is closed, at most `ARGV[1]` commits: answers how many, how many bytes, and `1` if there may be more.
///
/// `KEYS`: the log, and the parts of large bodies; `ARGV` from the second on: their names. If others are to go as well, nothing is done, and
/// the answer is `-1` and their names.
pub(crate) static SWEEP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local log = KEYS[1]
local ends = redis.call('HMGET', log, 'n', 'v', 's')
if not ends[2] then return {0, 0, 0} end
local boundary, first = tonumber(ends[1] or 0), tonumber(ends[3] or 0) + 1
local last = math.min(boundary, first + tonumber(ARGV[1]) - 1)
if last < first then return {0, 0, 0} end
local named = {}
for i = 2, #ARGV do named[ARGV[i]] = true end
local fields, others, count, bytes = {}, {-1}, 0, 0
for at = first, last do
  local version = string.format('%.0f', at)
  local header, body = redis.call('HSTRLEN', log, 'h' .. version), redis.call('HSTRLEN', log, 'b' .. version)
  local parts = redis.call('HGET', log, 'k' .. version)
  if header > 0 then count, bytes = count + 1, bytes + header - 4 end
  if body > 0 then bytes = bytes + body - 4 end
  if parts then
    bytes = bytes + tonumber(string.match(parts, ':(%d+):'))
    local name = string.match(parts, '^[^:]+')
    if not named[name] then others[#others + 1] = name end
  end
  for _, kind in ipairs({'h', 'b', 'k'}) do fields[#fields + 1] = kind .. version end
end
if #others > 1 then return others end
redis.call('HDEL', log, unpack(fields))
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('HSET', log, 's', string.format('%.0f', last))
return {count, bytes, last < boundary and 1 or 0}
",
    )
});

/// Deletes bodies. `KEYS` as of [`SWEEP`]; `ARGV`: how many names of parts there are, those names, and the versions. Answers the names of the
/// parts that are to go as well, if there are others; then nothing was done.
pub(crate) static DROP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local log, names = KEYS[1], tonumber(ARGV[1])
local named, fields, others = {}, {}, {}
for i = 2, names + 1 do named[ARGV[i]] = true end
for i = names + 2, #ARGV do
  local parts = redis.call('HGET', log, 'k' .. ARGV[i])
  local name = parts and string.match(parts, '^[^:]+')
  if name and not named[name] then others[#others + 1] = name end
  fields[#fields + 1] = 'b' .. ARGV[i]
  fields[#fields + 1] = 'k' .. ARGV[i]
end
if #others > 0 then return others end
redis.call('HDEL', log, unpack(fields))
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return others
",
    )
});

/// Keeps parts of what is not there yet. Nobody misses them if nothing comes of it: then the server deletes them.
///
/// `ARGV`: seconds, then fields and values.
pub(crate) static STAGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local fields = {}
for i = 2, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 'done'
",
    )
});

/// Makes a blob of what was staged: 1 if it was made by this, 0 if there is another, -1 if the parts are not there.
///
/// `KEYS`: the blob, the parts, the names of the log's blobs. `ARGV`: the name of the parts, their number, the blob's name and length.
pub(crate) static PUT_BLOB: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local there = redis.call('HMGET', KEYS[1], 'i', 'n')
if there[1] then
  redis.call('UNLINK', KEYS[2])
  redis.call('HSET', KEYS[3], ARGV[3], there[2])
  return there[1] == ARGV[1] and 1 or 0
end
if redis.call('HLEN', KEYS[2]) ~= tonumber(ARGV[2]) then return -1 end
redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
redis.call('PERSIST', KEYS[2])
redis.call('RENAME', KEYS[2], KEYS[1])
return 1
",
    )
});

/// Deletes a blob and its name.
pub(crate) static DELETE_BLOB: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
return 'done'
",
    )
});
