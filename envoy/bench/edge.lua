-- Does the filter's job with Envoy's Lua filter, for the benchmark: one pass over the request's headers, and a write only
-- where something changes.
--
-- It does less than the filter, never more: no trust list, no absolute URLs in redirects, no underscores in nominations,
-- no counters.

local MOUNT = "/apps/my-app"
local HSTS = "max-age=31536000"
local SLASH = string.byte("/")

local byte, find, gsub, match, sub = string.byte, string.find, string.gsub, string.match, string.sub

-- The fields to set, in this order.
local SET = {
  "x-forwarded-for", "x-real-ip", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
}
local IS_SET = {}
for _, name in ipairs(SET) do
  IS_SET[name] = true
end

local GOVERNED = {}
for name in string.gmatch([[
  forwarded x-client-ip client-ip x-cluster-client-ip true-client-ip cf-connecting-ip cf-connecting-ipv6
  cf-pseudo-ipv4 fastly-client-ip fly-client-ip x-azure-clientip x-azure-socketip x-appengine-user-ip
  x-originating-ip x-remote-ip x-remote-addr x-proxyuser-ip x-original-forwarded-for x-original-for
  x-envoy-external-address front-end-https x-url-scheme x-scheme x-proxied-https x-original-proto x-host
  x-original-host x-http-host-override x-original-url x-original-uri x-original-method x-original-path x-rewrite-url
  x-envoy-original-path x-script-name script-name path-info x-ingress-path x-original-prefix proxy remote-user
  x-remote-user x-client-cert x-real-ip x-forwarded forwarded-for proxy-client-ip wl-proxy-client-ip
  cloudfront-viewer-address x-vercel-forwarded-for do-connecting-ip incap-client-ip cloudfront-forwarded-proto
  wl-proxy-ssl x-arr-ssl cf-visitor fly-forwarded-proto
]], "%S+") do
  GOVERNED[name] = true
end

local SECURITY_HEADERS = {
  {"x-content-type-options", "nosniff"},
  {"x-frame-options", "SAMEORIGIN"},
  {"referrer-policy", "strict-origin-when-cross-origin"},
}

-- Envoy gives names in lower case.
local function is_protected(name)
  if find(name, "_", 1, true) then
    name = gsub(name, "_", "-")
  end
  return GOVERNED[name]
    or (sub(name, 1, 12) == "x-forwarded-" and name ~= "x-forwarded-client-cert")
    or sub(name, 1, 15) == "x-auth-request-"
    or sub(name, 1, 13) == "x-ssl-client-"
    or sub(name, 1, 11) == "ssl-client-"
end

-- Returns the path after the mount; nil if the path is not under it.
local function strip(path)
  if sub(path, 1, #MOUNT) ~= MOUNT then
    return nil
  end
  local rest = sub(path, #MOUNT + 1)
  if rest == "" or find(rest, "^[/?#]") then
    return rest
  end
  return nil
end

local HEX = {}
for value = 0, 255 do
  for _, form in ipairs({"%02x", "%02X"}) do
    HEX[string.format(form, value)] = string.char(value)
  end
end

local function decode(text)
  return (gsub(text, "%%(%x%x)", function(digits)
    local octet = HEX[string.lower(digits)]
    return find(octet, "[%w%-._~%%/\\]") and octet or nil
  end))
end

-- Returns true if every server reads the target in the same way.
local function is_clear(target)
  if #target > 8192 or find(target, "[^!-~]") or find(target, "#", 1, true) then
    return false
  end
  local path = match(target, "^[^?]*")
  if find(path, "\\", 1, true) then
    return false
  end
  if find(path, "%", 1, true) then
    if find((gsub(path, "%%%x%x", "")), "%", 1, true) or find(path, "%%[01]%x") or find(path, "%%7[fF]") then
      return false
    end
    path = gsub(decode(decode(path)), "\\", "/")
  end
  for segment in string.gmatch(path, "[^/]+") do
    local name = match(segment, "^[^;]*")
    if name == "." or name == ".." then
      return false
    end
  end
  return true
end

local function is_host(authority)
  local host = match(authority, "^([%w._-]+)$") or match(authority, "^([%w._-]+):%d+$") or match(authority, "^(%[[%x:.]+%])")
  return host ~= nil and #host <= 253
end

local function rewrite_cookie(line)
  if sub(line, 1, 7) == "__Host-" then
    return line
  end
  return (gsub(line, "(;%s*[Pp][Aa][Tt][Hh]=)(/[^;]*)", function(lead, path)
    if path == "/" then
      return lead .. MOUNT
    elseif not strip(path) then
      return lead .. MOUNT .. path
    end
  end))
end

local function is_tls(handle)
  return handle:streamInfo():downstreamSslConnection() ~= nil
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path, authority = headers:get(":path"), headers:get(":authority")
  if not is_clear(path) or not is_host(authority) then
    handle:respond({[":status"] = "400"}, "The request is ambiguous.\n")
    return
  end
  local rest = strip(path)
  if not rest then
    handle:respond({[":status"] = "404"}, "No app is published at this path.\n")
    return
  elseif byte(rest) ~= SLASH then
    handle:respond({[":status"] = "308", ["location"] = MOUNT .. "/" .. rest}, "The app is one slash further.\n")
    return
  end

  local scheme = is_tls(handle) and "https" or "http"
  local peer = match(handle:streamInfo():downstreamDirectRemoteAddress(), "^%[?(.-)%]?:%d+$")
  local wanted = {
    ["x-forwarded-for"] = peer,
    ["x-real-ip"] = peer,
    ["x-forwarded-proto"] = scheme,
    ["x-forwarded-host"] = authority,
    ["x-forwarded-port"] = match(authority, ":(%d+)$") or (scheme == "https" and "443" or "80"),
    ["x-forwarded-prefix"] = MOUNT,
  }

  -- The map must not be changed during the iteration.
  local present, removed = {}, {}
  for name, value in pairs(headers) do
    if IS_SET[name] then
      -- A field with a second line is replaced in any case.
      present[name] = present[name] == nil and value or ""
    elseif is_protected(name) then
      removed[#removed + 1] = name
    end
  end
  local connection = headers:get("connection")
  if connection then
    for name in string.gmatch(string.lower(connection), "[^,%s]+") do
      if name ~= "upgrade" and name ~= "close" and name ~= "keep-alive" and name ~= "te" and not IS_SET[name] then
        removed[#removed + 1] = name
      end
    end
  end
  for _, name in ipairs(removed) do
    headers:remove(name)
  end
  for _, name in ipairs(SET) do
    if present[name] ~= wanted[name] then
      headers:replace(name, wanted[name])
    end
  end
  headers:replace("x-envoy-original-path", path)
  headers:replace(":path", rest)
  handle:clearRouteCache()
  -- For access logs, RBAC and rate limits.
  handle:streamInfo():dynamicMetadata():set("edge", "client", peer)
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local location = headers:get("location")
  if location and byte(location) == SLASH and byte(location, 2) ~= SLASH and not strip(location) then
    headers:replace("location", MOUNT .. location)
  end

  local lines, is_changed = {}, false
  for index = 0, headers:getNumValues("set-cookie") - 1 do
    local line = headers:getAtIndex("set-cookie", index)
    local rewritten = rewrite_cookie(line)
    lines[index + 1] = rewritten
    is_changed = is_changed or rewritten ~= line
  end
  if is_changed then
    headers:remove("set-cookie")
    for _, line in ipairs(lines) do
      headers:add("set-cookie", line)
    end
  end

  if is_tls(handle) and not headers:get("strict-transport-security") then
    headers:add("strict-transport-security", HSTS)
  end
  for _, header in ipairs(SECURITY_HEADERS) do
    if not headers:get(header[1]) then
      headers:add(header[1], header[2])
    end
  end
end
