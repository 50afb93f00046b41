/*
 * The outbound guard's steps in Lua, as the store runs them on Redis; in C they
 * are in guard_watch.c and guard_places.c.
 */
#ifndef POLICY_GUARD_SCRIPT_H
#define POLICY_GUARD_SCRIPT_H

/* A place is country, days, hour. */
#define GUARD_PLACES_SCRIPT						\
	"local function get_places(key, hour)\n"			\
	"  local places, w = {}, get(key)\n"				\
	"  for c, d, h in (w and w.note or ''):gmatch(\n"		\
	"    '(%u%u)(%d)(%d%d%d%d%d%d)') do\n"				\
	"    local place = {c, tonumber(d), tonumber(h)}\n"		\
	"    if place[3] >= hour - 2160 then\n"				\
	"      places[#places + 1] = place\n"				\
	"    end\n"							\
	"  end\n"							\
	"  return places\n"						\
	"end\n"								\
	"local function put_places(key, places)\n"			\
	"  local w = {0, 0, 0, 0, 0, 0, 0, 0, note = ''}\n"		\
	"  for _, p in ipairs(places) do\n"				\
	"    w.note = w.note .. p[1] .. p[2] ..\n"			\
	"      string.format('%06d', p[3])\n"				\
	"  end\n"							\
	"  put(key, w, now + 90 * 86400000)\n"				\
	"end\n"

/* Sets countries and away, and changed if places are to be put. */
#define GUARD_COUNTRIES_SCRIPT						\
	GUARD_PLACES_SCRIPT						\
	"local country, changed, countries = t[3], false, 0\n"		\
	"local places, here, home, away = {}, nil, 0, false\n"		\
	"if not known and (country ~= '' or event == 2) then\n"		\
	"  places = get_places(k[6], hour)\n"				\
	"end\n"								\
	"if not known and event == 0 and country ~= '' then\n"		\
	"  local oldest\n"						\
	"  for _, p in ipairs(places) do\n"				\
	"    if p[1] == country then here = p end\n"			\
	"    if not oldest or p[3] < oldest[3] then oldest = p end\n"	\
	"  end\n"							\
	"  if not here then\n"						\
	"    here, changed = oldest, true\n"				\
	"    local days = oldest and 1 or 3\n"				\
	"    if #places < 20 then\n"					\
	"      here = {}\n"						\
	"      places[#places + 1] = here\n"				\
	"    end\n"							\
	"    here[1], here[2], here[3] = country, days, hour\n"		\
	"  elseif here[3] < hour then\n"				\
	"    if n[7] <= now and here[2] < 3 and\n"			\
	"      math.floor(here[3] / 24) < math.floor(hour / 24) then\n"	\
	"      here[2] = here[2] + 1\n"					\
	"    end\n"							\
	"    here[3], changed = hour, true\n"				\
	"  end\n"							\
	"  away = here[2] < 3\n"					\
	"end\n"								\
	"for _, p in ipairs(places) do\n"				\
	"  if p[3] >= hour - 1 and p[2] < 3 then\n"			\
	"    countries = countries + 1\n"				\
	"  elseif p[3] >= hour - 1 then home = 1 end\n"			\
	"end\n"								\
	"countries = countries + home\n"

#define GUARD_WATCH_SCRIPT						\
	"local event, factor, most, suspend = a[1], a[7], a[8], a[9]\n"	\
	"local mark, keep = t[1], 90 * 86400000\n"			\
	"local function none() return {0, 0, 0, 0, 0, 0, 0, 0} end\n"	\
	"local n, p, b = get(k[1]) or none(), get(k[2]) or none(),\n"	\
	"  get(k[3]) or none()\n"					\
	"local m = get(k[4])\n"						\
	"local first, known = not m, false\n"				\
	"m = m or none()\n"						\
	"local note = m.note or ''\n"					\
	"for i = 1, #note, 6 do\n"					\
	"  if note:sub(i, i + 5) == mark then known = event ~= 2 end\n"	\
	"end\n"								\
	"local add = {0, 0, 0, 0}\n"					\
	"if event == 1 and not known then add[4] = 1 end\n"		\
	"if event == 0 and not known then\n"				\
	"  add = {first and 1 or 0, 1, get(k[5]) and 0 or 1, 0}\n"	\
	"end\n"								\
	"local hour, day = math.floor(now / 3600000),\n"		\
	"  math.floor(now / 86400000)\n"				\
	"if hour > n[1] then\n"						\
	"  for i = 1, 4 do\n"						\
	"    p[i] = hour == n[1] + 1 and n[1 + i] or 0\n"		\
	"    n[1 + i] = 0\n"						\
	"  end\n"							\
	"  n[1] = hour\n"						\
	"end\n"								\
	"if b[5] == 0 then b[5] = day end\n"				\
	"if day > b[5] then\n"						\
	"  for d = 1, math.min(day - b[5], 30) do\n"			\
	"    for i = 1, 4 do\n"						\
	"      local peak = math.min(p[4 + i] * 1000,\n"		\
	"        factor * math.max(b[i], a[1 + i] * 1000))\n"		\
	"      if peak > b[i] then\n"					\
	"        b[i] = b[i] + math.floor((peak - b[i]) * 3 / 10)\n"	\
	"      else\n"							\
	"        b[i] = b[i] - math.floor((b[i] - peak) / 20)\n"	\
	"      end\n"							\
	"      p[4 + i] = 0\n"						\
	"    end\n"							\
	"  end\n"							\
	"  b[5], n[6] = day, 0\n"					\
	"end\n"								\
	GUARD_COUNTRIES_SCRIPT						\
	"local left = 3600000 - now % 3600000\n"			\
	"local level, worst, c, l = 0, 1, {}, {}\n"			\
	"for i = 1, 4 do\n"						\
	"  c[i] = n[1 + i] + math.floor(p[i] * left / 3600000) + add[i]\n" \
	"  l[i] = math.max(a[1 + i], math.floor(factor * b[i] / 1000))\n" \
	"  if away then l[i] = math.floor((l[i] + 1) / 2) end\n"	\
	"end\n"								\
	"c[5], l[5] = countries, a[6]\n"				\
	"for i = 1, 5 do\n"						\
	"  local x = c[i] > 4 * l[i] and 3 or c[i] > 2 * l[i] and 2 or\n" \
	"    c[i] > l[i] and 1 or 0\n"					\
	"  if x > level then level, worst = x, i end\n"			\
	"end\n"								\
	"level = math.min(level, most)\n"				\
	"local wait, told = 0, 0\n"					\
	"if n[7] > now then level, wait = 3, n[7] - now end\n"		\
	"local function answer(yes)\n"					\
	"  return yes, level, wait, told, worst - 1, c[1], c[2], c[3],\n" \
	"    c[4], c[5], l[1], l[2], l[3], l[4], l[5]\n"		\
	"end\n"								\
	"if known then level = m[2] end\n"				\
	"if known or event == 2 then return answer(1) end\n"		\
	"if level == 3 then\n"						\
	"  if n[7] <= now then n[7] = now + suspend end\n"		\
	"  wait = n[7] - now\n"						\
	"elseif level == 1 and event == 0 then\n"			\
	"  local pace = 3600000 / l[worst == 5 and 2 or worst]\n"	\
	"  wait = math.max(0, n[8] + math.floor(pace) - now)\n"		\
	"end\n"								\
	"if level > n[6] then n[6], told = level, 1 end\n"		\
	"n.note = t[2]\n"						\
	"if changed then put_places(k[6], places) end\n"		\
	"local counts = event ~= 0 or wait == 0\n"			\
	"if counts then\n"						\
	"  for i = 1, 4 do\n"						\
	"    n[1 + i] = n[1 + i] + add[i]\n"				\
	"    if level < 2 then p[4 + i] = math.max(p[4 + i], c[i]) end\n" \
	"  end\n"							\
	"  if event == 0 then n[8] = now end\n"				\
	"  m[1], m[2], m.note = m[1] + 1, level, note .. mark\n"	\
	"  if #m.note > 498 then m.note = m.note:sub(7) end\n"		\
	"  put(k[4], m, now + 7200000)\n"				\
	"  if event == 0 then put(k[5], none(), now + keep) end\n"	\
	"end\n"								\
	"put(k[1], n, now + keep)\n"					\
	"put(k[2], p, now + keep)\n"					\
	"put(k[3], b, now + keep)\n"					\
	"return answer(counts and 1 or 0)\n"

#define GUARD_RELEASE_SCRIPT						\
	GUARD_PLACES_SCRIPT						\
	"if not get(k[1]) then return 0 end\n"				\
	"del(k[1])\n"							\
	"del(k[2])\n"							\
	"if get(k[3]) then\n"						\
	"  local hour, homes = math.floor(now / 3600000), {}\n"		\
	"  for _, p in ipairs(get_places(k[3], hour)) do\n"		\
	"    p[3] = math.min(p[3], hour - 2)\n"				\
	"    if p[2] >= 3 then homes[#homes + 1] = p end\n"		\
	"  end\n"							\
	"  put_places(k[3], homes)\n"					\
	"end\n"								\
	"return 1\n"

#endif
