-- What people write instead of a filter, for the benchmark: it overwrites the forwarding fields of all but one network,
-- strips the mount and adds security headers. It has no list of networks, and knows neither other forged fields,
-- nominations, redirects nor cookies.

local MOUNT = "/apps/my-app"
local TRUSTED = "10."

local FORWARDED = {
  "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-proto",
  "x-real-ip",
}

local ADDED = {
  ["referrer-policy"] = "strict-origin-when-cross-origin",
  ["strict-transport-security"] = "max-age=31536000",
  ["x-content-type-options"] = "nosniff",
  ["x-frame-options"] = "SAMEORIGIN",
}

function envoy_on_request(handle)
  local headers = handle:headers()
  local peer = string.match(handle:streamInfo():downstreamDirectRemoteAddress(), "^(.*):%d+$")
  if string.sub(peer, 1, #TRUSTED) ~= TRUSTED then
    for _, name in ipairs(FORWARDED) do
      headers:remove(name)
    end
  end
  local path = headers:get(":path")
  headers:replace("x-forwarded-for", peer)
  headers:replace("x-real-ip", peer)
  headers:replace("x-forwarded-host", headers:get(":authority"))
  headers:replace("x-forwarded-proto", "https")
  if string.sub(path, 1, #MOUNT) == MOUNT then
    local rest = string.sub(path, #MOUNT + 1)
    headers:replace("x-forwarded-prefix", MOUNT)
    headers:replace(":path", rest == "" and "/" or rest)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  for name, value in pairs(ADDED) do
    if headers:get(name) == nil then
      headers:add(name, value)
    end
  end
end
