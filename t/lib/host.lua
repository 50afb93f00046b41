-- miltertest: a message that a filter host at port checks and signs, twice in
-- one session, then a forgery.  Started with -D port=NUMBER.
local function must(reply, wanted, what)
	if reply ~= wanted then
		error(what .. ": " .. tostring(reply))
	end
end

local function envelope(milter, sender)
	mt.macro(milter, SMFIC_MAIL, "i", "LUA1")
	if mt.mailfrom(milter, sender) ~= nil then error("mailfrom") end
	must(mt.getreply(milter), SMFIR_CONTINUE, "mailfrom")
	if mt.rcptto(milter, "bob@example.test") ~= nil then
		error("rcptto")
	end
	must(mt.getreply(milter), SMFIR_CONTINUE, "rcptto")
end

local function content(milter, sender)
	mt.header(milter, "From", sender)
	mt.header(milter, "To", "bob@example.test")
	mt.header(milter, "Date", "Tue, 24 Nov 2026 08:00:00 +0000")
	mt.header(milter, "Subject", "a test")
	mt.eoh(milter)
	mt.bodystring(milter, "hello\r\n")
	mt.eom(milter)
end

local milter = mt.connect("inet:" .. port .. "@127.0.0.1", 40, 0.05)
if milter == nil then error("connect") end
mt.macro(milter, SMFIC_CONNECT, "j", "mta.example.test", "{daemon_name}",
    "MTA")
if mt.conninfo(milter, "localhost", "127.0.0.1") ~= nil then
	error("conninfo")
end
must(mt.getreply(milter), SMFIR_CONTINUE, "conninfo")
if mt.helo(milter, "localhost") ~= nil then error("helo") end
must(mt.getreply(milter), SMFIR_CONTINUE, "helo")

for _ = 1, 2 do
	envelope(milter, "alice@sender.test")
	content(milter, "alice@sender.test")
	must(mt.getreply(milter), SMFIR_CONTINUE, "end of message")
	if not mt.eom_check(milter, MT_HDRINSERT, "Authentication-Results") then
		error("no results")
	end
	if not mt.eom_check(milter, MT_HDRINSERT, "DKIM-Signature") then
		error("no signature")
	end
end
envelope(milter, "alice@forged.test")
content(milter, "alice@forged.test")
must(mt.getreply(milter), SMFIR_REPLYCODE, "a forgery")
mt.disconnect(milter)
