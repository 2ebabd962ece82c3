-- One request a time that writes something new, to either system:
--   wrk ... -s put.lua URL -- etcd|skyclaw PREFIX
-- The text that names the job (skyclaw) or is the key (etcd) is new each time and made in the same way for both, so
-- that wrk costs both the same. PREFIX (4 letters) keeps one run's keys from those of another.

local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

local head, tail, name, count

function init(args)
  local system, prefix = args[1], args[2]
  assert(#prefix == 4, "a prefix has 4 letters")
  -- Any text of 16 letters and digits is the base64 of 12 bytes, so a key needs no encoding.
  name = prefix .. string.format("%02d", number)
  count = 0
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  if system == "etcd" then
    -- As long as a job's body below, in base64.
    head, tail = '{"value":"' .. string.rep("c2t5Y2xh", 13) .. '","key":"', '"}'
    wrk.path = "/v3/kv/put"
  else
    head, tail = '{"payload":{"kind":"shell","command":"/bin/true","args":["', '"]}}'
    wrk.path = "/v1/jobs"
    wrk.headers["x-skyclaw-token"] = os.getenv("SKYCLAW_TOKEN")
  end
end

function request()
  count = count + 1
  return wrk.format(nil, nil, nil, head .. name .. string.format("%010d", count) .. tail)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.3f,"per_second":%.1f,"failed":%d,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, summary.duration / 1e6, summary.requests / (summary.duration / 1e6),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
