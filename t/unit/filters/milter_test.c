#include "filters/milter.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "filters/milter_codec.h"
#include "t/unit/filters/milter_peer.h"
#include "t/unit/filters/milter_world.h"
#include "t/unit/unit.h"

/* --- conversations --- */

struct conversation {
	const char *name;
	struct peer_script script;
	const char *options, *events;
	enum action action;		/* of the last event */
	int code;
	const char *commands;
};

#define R(on, nth, code, payload) { on, nth, code, BYTES(payload), 0 }
#define F(on, nth, code, payload, flags) \
	{ on, nth, code, BYTES(payload), flags }

#define TEXT64 "0123456789abcdefghijklmnopqrstuvwxyz" \
	"0123456789abcdefghijklmn\r\n\r\n"
#define TEXT512 TEXT64 TEXT64 TEXT64 TEXT64 TEXT64 TEXT64 TEXT64 TEXT64

static const struct conversation conversations[] = {
	{ "a whole message", { 0 }, "", "CHMRDE", ACTION_CONTINUE, 0,
	    "|OCHMRTLLLLNBEQ" },
	{ "two messages, no abort between", { 0 }, "", "CHMRDEMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEMRTLLLLNBEQ" },
	{ "P32 reset once", { 0 }, "", "CHMRXX", ACTION_CONTINUE, 0,
	    "|OCHMRAQ" },
	{ "P32 reset after data, next message", { 0 }, "", "CHMRDXMR",
	    ACTION_CONTINUE, 0, "|OCHMRTAMRAQ" },
	{ "P34 client lost within its data", { 0 }, "", "CHMRDX",
	    ACTION_CONTINUE, 0, "|OCHMRTAQ" },
	{ "P28 all recipients refused: abort, no data", { .replies = {
	    R('R', 0, 'r', "") } }, "", "CHMRrXMX", ACTION_CONTINUE, 0,
	    "|OCHMRRAMAQ" },
	{ "P33 second helo", { 0 }, "", "CHMRXH", ACTION_CONTINUE, 0,
	    "|OCHMRAHQ" },

	/* Negotiation. */
	{ "P19 version 2", { .version = 2, .actions = 0x3f }, "", "CHUMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRLLLLNBEQ" },
	{ "version 3", { .version = 3, .actions = 0x3f }, "", "CHUMRDE",
	    ACTION_CONTINUE, 0, "|OCHUMRLLLLNBEQ" },
	{ "P20 version 7", { .version = 7 }, "", "CHM", ACTION_TEMPFAIL, 451,
	    "|O|O|O" },
	{ "version 1", { .version = 1 }, "", "M", ACTION_TEMPFAIL, 451,
	    "|O" },
	{ "negotiation refused", { .replies = { R('O', 0, 't', "") } }, "",
	    "M", ACTION_TEMPFAIL, 451, "|O" },
	{ "P21 nothing wanted", { .protocol = 0x37f }, "", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OEQ" },
	{ "P38 silent everywhere", { .protocol = 0xff080 }, "", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEQ" },
	{ "P38 silent, aborted before the end", { .protocol = 0xff080 }, "",
	    "CHMRX", ACTION_CONTINUE, 0, "|OCQ" },
	{ "P39 silent at rcpt only", { .protocol = 0x8000 }, "", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEQ" },
	{ "P25 larger packets claimed without an offer", { .version = 6,
	    .actions = 0x1ff, .protocol = 0x30000000 }, "", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEQ" },
	{ "P18 unoffered actions", { .version = 6, .actions = 0xffffffff,
	    .protocol = 0x400 }, "", "CHMRDE", ACTION_CONTINUE, 0,
	    "|OCHMRTLLLLNBEQ" },

	/* Decisions. */
	{ "reject at connect", { .replies = { R('C', 0, 'r', "") } }, "",
	    "CH", ACTION_REJECT, 550, "|OCQ" },
	{ "accept at connect", { .replies = { R('C', 0, 'a', "") } }, "",
	    "CHMRDE", ACTION_CONTINUE, 0, "|OCQ" },
	{ "discard at connect is ignored", { .replies = {
	    R('C', 0, 'd', "") } }, "", "CHMRDE", ACTION_CONTINUE, 0,
	    "|OCHMRTLLLLNBEQ" },
	{ "P30 421 at helo", { .replies = {
	    R('H', 0, 'y', "421 4.3.0 bye\0") } }, "", "CH",
	    ACTION_DISCONNECT, 421, "|OCHQ" },
	{ "reject at mail", { .replies = { R('M', 1, 'r', "") } }, "", "CHM",
	    ACTION_REJECT, 550, "|OCHMQ" },
	{ "P26 accept at rcpt, next message anew", { .replies = {
	    R('R', 1, 'a', "") } }, "", "CHMRrDEMRDE", ACTION_CONTINUE, 0,
	    "|OCHMRMRTLLLLNBEQ" },
	{ "P27 reject of a recipient", { .replies = { R('R', 1, 'y',
	    "550 5.1.1 who\0") } }, "", "CHMR", ACTION_REJECT, 550,
	    "|OCHMRAQ" },
	{ "one recipient of two", { .replies = { R('R', 1, 't', "") } }, "",
	    "CHMRrDE", ACTION_CONTINUE, 0, "|OCHMRRTLLLLNBEQ" },
	{ "P29 discard at rcpt", { .replies = { R('R', 1, 'd', "") } }, "",
	    "CHMRrDE", ACTION_DISCARD, 0, "|OCHMRAQ" },
	{ "P29 discard at eom", { .replies = { R('E', 0, 'd', "") } }, "",
	    "CHMRDE", ACTION_DISCARD, 0, "|OCHMRTLLLLNBEQ" },
	{ "reject at data", { .replies = { R('T', 0, 'r', "") } }, "",
	    "CHMRD", ACTION_REJECT, 550, "|OCHMRTQ" },
	{ "reject at the first field: others may be owed", { .replies = {
	    R('L', 1, 'y', "554 5.7.0 bad\0") } }, "", "CHMRDEMRDE",
	    ACTION_REJECT, 554, NULL },
	{ "reject at the body", { .replies = { R('B', 1, 'r', "") } }, "",
	    "CHMRDE", ACTION_REJECT, 550, "|OCHMRTLLLLNBE" },
	{ "reject at the body, next message on another connection",
	    { .replies = { F('B', 1, 'r', "", PEER_ONCE) } }, "",
	    "CHMRDEMRDE", ACTION_CONTINUE, 0,
	    "|OCHMRTLLLLNBE|OCHMRTLLLLNBEQ" },
	{ "P66 tempfail at eom", { .replies = { R('E', 0, 't', "") } }, "",
	    "CHMRDE", ACTION_TEMPFAIL, 451, "|OCHMRTLLLLNBEQ" },
	{ "accept at eom", { .replies = { R('E', 0, 'a', "") } }, "",
	    "CHMRDE", ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEQ" },
	{ "P31 421 at eom", { .replies = { R('E', 0, 'y', "421 x\0") } }, "",
	    "CHMRDE", ACTION_DISCONNECT, 421, "|OCHMRTLLLLNBEQ" },
	{ "shutdown", { .replies = { R('M', 0, '4', "") } }, "", "CHM",
	    ACTION_DISCONNECT, 421, "|OCHMQ" },
	{ "P07 reply text without NUL", { .replies = {
	    R('E', 0, 'y', "550 no") } }, "", "CHMRDE", ACTION_REJECT, 550,
	    "|OCHMRTLLLLNBEQ" },
	{ "P07 reply text of class 2", { .replies = {
	    R('E', 0, 'y', "250 ok\0") } }, "", "CHMRDE", ACTION_TEMPFAIL,
	    451, "|OCHMRTLLLLNBEQ" },

	/* Unknown commands, refused recipients, skipping. */
	{ "P40 unknown command", { .replies = { R('U', 0, 'y',
	    "500 5.5.1 FOO?\0") } }, "", "CHMRU", ACTION_REJECT, 500,
	    "|OCHMRUAQ" },
	{ "P43 refused recipient, not asked for", { 0 }, "", "CHMSR",
	    ACTION_CONTINUE, 0, "|OCHMRAQ" },
	{ "P43 refused recipient, asked for", { .protocol = 0x800,
	    .replies = { R('R', 1, 'r', "") } }, "", "CHMSR",
	    ACTION_CONTINUE, 0, "|OCHMRRAQ" },
	{ "P37 skip recipients", { .protocol = 0x400, .replies = {
	    R('R', 1, 's', "") } }, "", "CHMRrRDE", ACTION_CONTINUE, 0,
	    "|OCHMRTLLLLNBEQ" },
	{ "P37 skip in flight", { .protocol = 0x400, .replies = {
	    R('L', 1, 's', "") } }, "", "CHMRDE", ACTION_CONTINUE, 0,
	    "|OCHMRTLLLLNBEQ" },
	{ "skip not negotiated", { .replies = { R('R', 1, 's', "") } }, "",
	    "CHMR", ACTION_TEMPFAIL, 451, "|OCHMR" },
	{ "P42 progress at connect and body", { .replies = {
	    R('C', 0, 'p', ""), R('C', 0, 'c', ""), R('B', 0, 'p', ""),
	    R('B', 0, 'p', ""), R('B', 0, 'c', "") } }, "", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEQ" },
	{ "P41 progress at eom", { .replies = { R('E', 0, 'p', ""),
	    R('E', 0, 'p', ""), R('E', 0, 'c', "") } }, "", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEQ" },

	/* Failures. */
	{ "P02 length 0", { .replies = { F('M', 0, 0, "\0\0\0\0", PEER_RAW) }
	    }, "", "CHM", ACTION_TEMPFAIL, 451, "|OCHM" },
	{ "P03 absurd length", { .replies = { F('M', 0, 0,
	    "\x7f\xff\xff\xff" "c", PEER_RAW) } }, "", "CHM",
	    ACTION_TEMPFAIL, 451, "|OCHM" },
	{ "P05 not a milter", { .replies = { F('O', 0, 0,
	    "UNKNOWN COMMAND\n", PEER_RAW) } }, "", "M", ACTION_TEMPFAIL,
	    451, "|O" },
	{ "P06 unknown reply", { .replies = { R('R', 0, 'Z', "") } }, "",
	    "CHMR", ACTION_TEMPFAIL, 451, "|OCHMR" },
	{ "P06 data after continue", { .replies = { R('R', 0, 'c', "x") } },
	    "", "CHMR", ACTION_TEMPFAIL, 451, "|OCHMR" },
	{ "P11 reply without code", { .replies = { R('E', 0, '\0',
	    "550 x\0") } }, "", "CHMRDE", ACTION_TEMPFAIL, 451,
	    "|OCHMRTLLLLNBE" },
	{ "P09 edit before the end", { .replies = { R('B', 0, 'h',
	    "A\0b\0") } }, "", "CHMRDE", ACTION_TEMPFAIL, 451,
	    "|OCHMRTLLLLNBE" },
	{ "P08 malformed edit", { .replies = { R('E', 0, 'h', "A\0b"),
	    R('E', 0, 'c', "") } }, "", "CHMRDE", ACTION_TEMPFAIL, 451,
	    "|OCHMRTLLLLNBE" },
	{ "P10 two final replies: next message on another connection",
	    { .replies = { F('E', 0, 'c', "", 0), F('E', 0, 'c', "", 0) } },
	    "", "CHMRDEMRDE", ACTION_CONTINUE, 0,
	    "|OCHMRTLLLLNBE|OCHMRTLLLLNBE*" },
	{ "P04 closed inside a packet", { .replies = { F('E', 0, 0,
	    "\0\0\0\5y5", PEER_RAW | PEER_CLOSE) } }, "", "CHMRDE",
	    ACTION_TEMPFAIL, 451, "|OCHMRTLLLLNBE" },
	{ "P69 lost at rcpt: told again", { .replies = { F('R', 1, 0, "",
	    PEER_NOTHING | PEER_CLOSE | PEER_ONCE) } }, "", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OCHMR|OCHMRTLLLLNBEQ" },
	{ "P69 told again, it refuses one that it had accepted",
	    { .replies = { F('R', 2, 0, "", PEER_NOTHING | PEER_CLOSE |
	    PEER_ONCE), F('R', 1, 'r', "", PEER_LATER) } }, "", "CHMRr",
	    ACTION_TEMPFAIL, 451, "|OCHMRR|OCHMR" },
	{ "P69 lost in the body: told again", { .replies = { F('B', 1, 0, "",
	    PEER_NOTHING | PEER_CLOSE | PEER_ONCE) } }, "", "CHMRrDE",
	    ACTION_CONTINUE, 0, "|OCHMRRTLLLLNB|OCHMRRTLLLLNBEQ" },
	{ "P69 lost after the end: not told again", { .replies = { F('E', 1,
	    0, "", PEER_NOTHING | PEER_CLOSE | PEER_ONCE) } }, "", "CHMRDE",
	    ACTION_TEMPFAIL, 451, "|OCHMRTLLLLNBE" },
	{ "P68 closed between messages", { .replies = { F('E', 1, 'c', "",
	    PEER_CLOSE | PEER_ONCE) } }, "", "CHMRDEMRDE", ACTION_CONTINUE,
	    0, "|OCHMRTLLLLNBE|OCHMRTLLLLNBEQ" },

	/* What becomes of the message then. */
	{ "default accept", { .replies = { R('E', 0, 'Z', "") } },
	    "default_action = accept", "CHMRDE", ACTION_CONTINUE, 0, NULL },
	{ "default reject", { .replies = { R('E', 0, 'Z', "") } },
	    "default_action = reject", "CHMRDE", ACTION_REJECT, 550, NULL },
	{ "default discard", { .replies = { R('R', 0, 'Z', "") } },
	    "default_action = discard", "CHMRDE", ACTION_DISCARD, 0, NULL },
	{ "P13 default accept, half a body", { .replies = { F('E', 0, 'b',
	    "new", PEER_CLOSE) } }, "default_action = accept", "CHMRDE",
	    ACTION_TEMPFAIL, 451, NULL },
	{ "P56 body beyond the limit", { .replies = { R('E', 0, 'b', TEXT512),
	    R('E', 0, 'b', TEXT512 "x"), R('E', 0, 'c', "") } },
	    "max_body = 1K", "CHMRDE", ACTION_TEMPFAIL, 451, NULL },
	{ "P56 body at the limit", { .replies = { R('E', 0, 'b', TEXT512),
	    R('E', 0, 'b', TEXT512), R('E', 0, 'c', "") } },
	    "max_body = 1K", "CHMRDE", ACTION_CONTINUE, 0, NULL },
	{ "condition: of the client, does not hold", { 0 },
	    "only_if = trusted", "CHUMRDE", ACTION_CONTINUE, 0, "" },
	{ "condition: of the client, to be skipped", { 0 },
	    "skip_if = \"client 192.0.2.0/24\"", "CHMRSDE", ACTION_CONTINUE,
	    0, "" },
	{ "condition: of the sender, does not hold", { 0 },
	    "only_if = \"sender example.net\"", "CHMRDXMRDE",
	    ACTION_CONTINUE, 0, "" },
	{ "condition: of the sender, holds: told from MAIL on", { 0 },
	    "only_if = \"sender example.org\"", "CHMRDEMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEMRTLLLLNBEQ" },
	{ "condition: of the recipient, does not hold", { 0 },
	    "only_if = \"recipient example.com\"", "CHMRDEMRX",
	    ACTION_CONTINUE, 0, "|OCHMRAMRAQ" },
	{ "condition: of the recipient, holds", { 0 },
	    "only_if = \"recipient example.net\"", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEQ" },
	{ "condition: of the size, does not hold", { 0 },
	    "only_if = \"size > 1M\"", "CHMRDEMRDE", ACTION_CONTINUE, 0,
	    "|OCHMRTAMRTAQ" },
	{ "condition: of the size, holds", { 0 }, "skip_if = \"size > 1M\"",
	    "CHMRDE", ACTION_CONTINUE, 0, "|OCHMRTLLLLNBEQ" },
	{ "condition: of a finding, does not hold", { .replies = {
	    R('E', 0, 'r', "") } }, "only_if = \"spf = pass\"", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OCHMRTAQ" },
	{ "condition: open at RCPT, its word counts", { .replies = {
	    R('R', 1, 'r', "") } }, "only_if = \"size > 1M\"", "CHMR",
	    ACTION_REJECT, 550, "|OCHMRAQ" },
	{ "P35 failure at connect doesn't hold for the session", {
	    .replies = { F('C', 0, 'Z', "", PEER_ONCE) } }, "", "CHMRDE",
	    ACTION_CONTINUE, 0, "|OC|OCHMRTLLLLNBEQ" },
};

/* A star at the end stands for anything more. */
static bool
heard(const char *want)
{
	size_t len = want != NULL ? strlen(want) : 0;

	if (want == NULL)
		return true;
	if (len > 0 && want[len - 1] == '*')
		return strncmp(peer_log.commands, want, len - 1) == 0;
	return strcmp(peer_log.commands, want) == 0;
}

static void
run_conversation(const struct conversation *c, int bytewise)
{
	struct verdict v;
	struct world w;

	peer_begin(&c->script);
	peer_log.bytewise = bytewise;
	world_init(&w, c->options, NULL);
	v = world_play_all(&w, c->events);
	CASE_ASSERT(c->name, v.action == c->action);
	CASE_ASSERT(c->name, v.code == c->code);
	world_release(&w);
	task_sleep(1);		/* the peers read QUIT */
	if (!heard(c->commands))
		fprintf(stderr, "\n%s: %s", c->name, peer_log.commands);
	CASE_ASSERT(c->name, heard(c->commands));
	peer_end();
}

static void
run_conversations(void *argument)
{
	const int *bytewise = argument;

	for (size_t i = 0; i < OPTION_COUNT(conversations); i++)
		run_conversation(&conversations[i], *bytewise);
}

static void
conversations_hold(void)
{
	int bytewise = 0;

	world_task(run_conversations, &bytewise);
}

/* P01: replies in pieces, or many at a time, are the same replies. */
static void
conversations_hold_byte_by_byte(void)
{
	int bytewise = 1;

	world_task(run_conversations, &bytewise);
}

/* --- edits --- */

struct edit_case {
	const char *name;
	struct peer_reply replies[8];
	bool exact;			/* HDR_LEADSPC */
	const char *options;
	const char *header, *body, *recipients, *sender;
	const char *hold;
};

#define HEADER_SAME "Received: by us\r\nSubject: one\r\nX-A: 1\r\n" \
	"X-A: 2\r\nX-AB: 3\r\n"
#define E(code, payload) { 'E', 0, code, BYTES(payload), 0 }

static const struct edit_case edit_cases[] = {
	{ "none", { E('c', "") }, false, "", HEADER_SAME, "hello\r\n",
	    "b@example.net", "a@example.org", NULL },
	{ "P61 add", { E('h', "X-A\0new\0"), E('c', "") }, false, "",
	    HEADER_SAME "X-A: new\r\n", NULL, NULL, NULL, NULL },
	{ "P47 add, leading space kept", { E('h', "X-B\0  v\0"),
	    E('h', "X-C\0v\0"), E('c', "") }, true, "",
	    HEADER_SAME "X-B:  v\r\nX-C:v\r\n", NULL, NULL, NULL, NULL },
	{ "P48 fold with CRLF", { E('h', "X-B\0a\r\n\tb\0"), E('c', "") },
	    false, "", HEADER_SAME "X-B: a\r\n\tb\r\n", NULL, NULL, NULL,
	    NULL },
	{ "P49 injection", { E('h', "X-B\0a\nBcc: x\n\nbody\0"), E('c', "") },
	    false, "", HEADER_SAME "X-B: a\r\n\tBcc: x\r\n\tbody\r\n", NULL,
	    NULL, NULL, NULL },
	{ "P50 bad names", { E('h', "\0v\0"), E('h', "X B\0v\0"),
	    E('h', "X:B\0v\0"), E('c', "") }, false, "", HEADER_SAME, NULL,
	    NULL, NULL, NULL },
	{ "P58 insert at 0, 1, 2", { E('i', "\0\0\0\0A\0a\0"),
	    E('i', "\0\0\0\1B\0b\0"), E('i', "\0\0\0\2C\0c\0"), E('c', "") },
	    false, "", "A: a\r\nB: b\r\nC: c\r\n" HEADER_SAME, NULL, NULL,
	    NULL, NULL },
	{ "P58 insert at 1 goes below our Received", {
	    E('i', "\0\0\0\1B\0b\0"), E('c', "") }, false, "",
	    "Received: by us\r\nB: b\r\nSubject: one\r\nX-A: 1\r\n"
	    "X-A: 2\r\nX-AB: 3\r\n", NULL, NULL, NULL, NULL },
	{ "P58 insert far beyond", { E('i', "\0\0\1\0B\0b\0"), E('c', "") },
	    false, "", HEADER_SAME "B: b\r\n", NULL, NULL, NULL, NULL },
	{ "P57 change the second", { E('m', "\0\0\0\2x-a\0new\0"),
	    E('c', "") }, false, "", "Received: by us\r\nSubject: one\r\n"
	    "X-A: 1\r\nX-A: new\r\nX-AB: 3\r\n", NULL, NULL, NULL, NULL },
	{ "P57 instance 0 is the first", { E('m', "\0\0\0\0X-A\0new\0"),
	    E('c', "") }, false, "", "Received: by us\r\nSubject: one\r\n"
	    "X-A: new\r\nX-A: 2\r\nX-AB: 3\r\n", NULL, NULL, NULL, NULL },
	{ "P57 beyond the last adds", { E('m', "\0\0\0\3X-A\0new\0"),
	    E('c', "") }, false, "", HEADER_SAME "X-A: new\r\n", NULL, NULL,
	    NULL, NULL },
	{ "P12 huge instance, empty value", { E('m',
	    "\xff\xff\xff\xffX-A\0\0"), E('c', "") }, false, "", HEADER_SAME,
	    NULL, NULL, NULL, NULL },
	{ "P57 delete ascending: numbers stay", { E('m', "\0\0\0\1X-A\0\0"),
	    E('m', "\0\0\0\2X-A\0\0"), E('c', "") }, false, "",
	    "Received: by us\r\nSubject: one\r\nX-AB: 3\r\n", NULL, NULL,
	    NULL, NULL },
	{ "P57 delete descending", { E('m', "\0\0\0\2X-A\0\0"),
	    E('m', "\0\0\0\1X-A\0\0"), E('c', "") }, false, "",
	    "Received: by us\r\nSubject: one\r\nX-AB: 3\r\n", NULL, NULL,
	    NULL, NULL },
	{ "P57 delete, then change: revived in its place", {
	    E('m', "\0\0\0\1X-A\0\0"), E('m', "\0\0\0\1X-A\0new\0"),
	    E('c', "") }, false, "", "Received: by us\r\nSubject: one\r\n"
	    "X-A: new\r\nX-A: 2\r\nX-AB: 3\r\n", NULL, NULL, NULL, NULL },
	{ "P60 our Received isn't counted after an insert above it", {
	    E('i', "\0\0\0\0X\0x\0"), E('m', "\0\0\0\1Received\0\0"),
	    E('c', "") }, false, "", "X: x\r\n" HEADER_SAME, NULL, NULL,
	    NULL, NULL },
	{ "an inserted one counts", { E('i', "\0\0\0\0X-A\0x\0"),
	    E('m', "\0\0\0\1X-A\0y\0"), E('c', "") }, false, "",
	    "X-A: y\r\n" HEADER_SAME, NULL, NULL, NULL, NULL },
	{ "an added one can be changed", { E('h', "X\0x\0"),
	    E('m', "\0\0\0\1X\0y\0"), E('c', "") }, false, "",
	    HEADER_SAME "X: y\r\n", NULL, NULL, NULL, NULL },
	{ "P56 body: bare LF, no last line end", { E('b', "a\nb"),
	    E('c', "") }, false, "", HEADER_SAME, "a\r\nb\r\n", NULL, NULL,
	    NULL },
	{ "P56 body: CRLF split", { E('b', "a\r"), E('b', "\nb\r\n"),
	    E('c', "") }, false, "", NULL, "a\r\nb\r\n", NULL, NULL, NULL },
	{ "P56 body: lone CR", { E('b', "a\rb\r"), E('c', "") }, false, "",
	    NULL, "a\r\nb\r\n", NULL, NULL, NULL },
	{ "P56 body: another edit between", { E('b', "a\r\n"),
	    E('h', "X\0x\0"), E('b', "b\r\n"), E('c', "") }, false, "",
	    HEADER_SAME "X: x\r\n", "a\r\nb\r\n", NULL, NULL, NULL },
	{ "P56 body: empty", { E('b', ""), E('c', "") }, false, "", NULL, "",
	    NULL, NULL, NULL },
	{ "P62 recipients", { E('+', "<c@x.net>\0"), E('+', "c@X.net\0"),
	    E('-', "b@EXAMPLE.net\0"), E('c', "") }, false, "", NULL, NULL,
	    "c@x.net", NULL, NULL },
	{ "P62 delete, add again", { E('-', "<b@example.net>\0"),
	    E('+', "<b@example.net>\0"), E('c', "") }, false, "", NULL, NULL,
	    "b@example.net", NULL, NULL },
	{ "P62 delete another case of the local part", {
	    E('-', "<B@example.net>\0"), E('c', "") }, false, "", NULL, NULL,
	    "b@example.net", NULL, NULL },
	{ "P62 recipient with bad arguments", { E('2',
	    "<c@x.net>\0NOTIFY=PERHAPS\0"), E('c', "") }, false, "", NULL,
	    NULL, "b@example.net c@x.net", NULL, NULL },
	{ "an argument that would be another command", { E('2',
	    "<c@x.net>\0ORCPT=rfc822;c\r\nDATA\0"), E('e',
	    "<s@x.net>\0ENVID=a\tb\0"), E('c', "") }, false, "", NULL,
	    NULL, "b@example.net c@x.net", "s@x.net", NULL },
	{ "what is no address", { E('+', "<c@x.net> NOTIFY=NEVER\0"),
	    E('+', "<c@x.net><d@x.net>\0"), E('+', "<a b@x.net>\0"),
	    E('+', "<\"c@x.net>\0"), E('+', "<\"c> \"@x.net>\0"),
	    E('e', "<s@x.net> AUTH=<>\0"), E('c', "") }, false, "", NULL,
	    NULL, "b@example.net \"c> \"@x.net", "a@example.org", NULL },
	{ "P62 sender", { E('e', "<>\0ENVID=x RET=HDRS\0"), E('c', "") },
	    false, "", HEADER_SAME, "hello\r\n", NULL, "", NULL },
	{ "P63 edits, then reject", { E('h', "X\0x\0"), E('b', "new"),
	    E('+', "<c@x.net>\0"), E('q', "q\0"), E('r', "") }, false, "",
	    HEADER_SAME, "hello\r\n", "b@example.net", "a@example.org",
	    NULL },
	{ "P64 quarantine", { E('q', "a\r\nb\0"), E('a', "") }, false, "",
	    NULL, NULL, NULL, NULL, "a  b" },
	{ "what isn't allowed", { E('h', "X\0x\0"), E('b', "new"),
	    E('q', "q\0"), E('-', "<b@example.net>\0"), E('c', "") }, false,
	    "allow = { \"add_header\" }", HEADER_SAME "X: x\r\n",
	    "hello\r\n", "b@example.net", NULL, NULL },
	{ "nor any other", { E('+', "<c@x.net>\0"),
	    E('2', "<d@x.net>\0NOTIFY=NEVER\0"), E('e', "<>\0"),
	    E('m', "\0\0\0\1Subject\0x\0"), E('i', "\0\0\0\0A\0a\0"),
	    E('h', "X\0x\0"), E('q', "why\0"), E('c', "") }, false,
	    "allow = { \"quarantine\" }", HEADER_SAME, "hello\r\n",
	    "b@example.net", "a@example.org", "why" },
};

static void
check_text(const char *name, void (*print)(const struct world *,
    struct buf *), const struct world *w, const char *want)
{
	struct buf text = BUF_INIT;

	if (want == NULL)
		return;
	print(w, &text);
	if (strcmp(text.data != NULL ? text.data : "", want) != 0)
		fprintf(stderr, "\n%s: {%s}", name, text.data);
	CASE_ASSERT(name, strcmp(text.data != NULL ? text.data : "",
	    want) == 0);
	buf_release(&text);
}

static void
run_edits(void *argument)
{
	(void)argument;
	for (size_t i = 0; i < OPTION_COUNT(edit_cases); i++) {
		const struct edit_case *c = &edit_cases[i];
		struct peer_script script = {
			.protocol = c->exact ? MILTER_LEADING_SPACE : 0 };
		struct world w;

		memcpy(script.replies, c->replies, sizeof(c->replies));
		peer_begin(&script);
		world_init(&w, c->options, NULL);
		world_play_all(&w, "CHMRDE");
		check_text(c->name, world_print_header, &w, c->header);
		check_text(c->name, world_print_body, &w, c->body);
		check_text(c->name, world_print_recipients, &w, c->recipients);
		for (const struct recipient *r =
		    w.mail->envelope.recipients; r != NULL; r = r->next)
			CASE_ASSERT(c->name, r->orcpt == NULL);
		if (c->sender != NULL)
			CASE_ASSERT(c->name, strcmp(w.mail->envelope.sender,
			    c->sender) == 0);
		CASE_ASSERT(c->name, w.mail->envelope.hold ==
		    (c->hold != NULL));
		if (c->hold != NULL && w.mail->envelope.hold)
			CASE_ASSERT(c->name, strcmp(
			    w.mail->envelope.hold_reason, c->hold) == 0);
		world_release(&w);
		peer_end();
		task_sleep(1);
	}
}

static void
edits_are_made(void)
{
	world_task(run_edits, NULL);
}

/* --- two of a group, which say the same about the same view --- */

static const struct edit_case group_cases[] = {
	{ "both add", { E('h', "X\0x\0"), E('c', "") }, false, "",
	    HEADER_SAME "X: x\r\nX: x\r\n", NULL, NULL, NULL, NULL },
	{ "both change the second, by identity", {
	    E('i', "\0\0\0\1X-A\0top\0"), E('m', "\0\0\0\3X-A\0new\0"),
	    E('c', "") }, false, "", "Received: by us\r\nX-A: top\r\n"
	    "X-A: top\r\nSubject: one\r\nX-A: 1\r\nX-A: new\r\n"
	    "X-AB: 3\r\n", NULL, NULL, NULL, NULL },
	{ "both delete", { E('m', "\0\0\0\1X-A\0\0"), E('c', "") }, false,
	    "", "Received: by us\r\nSubject: one\r\nX-A: 2\r\n"
	    "X-AB: 3\r\n", NULL, NULL, NULL, NULL },
	{ "both delete, and then change", { E('m', "\0\0\0\1X-A\0\0"),
	    E('m', "\0\0\0\1X-A\0new\0"), E('c', "") }, false, "",
	    "Received: by us\r\nSubject: one\r\nX-A: new\r\nX-A: 2\r\n"
	    "X-AB: 3\r\n", NULL, NULL, NULL, NULL },
	{ "both replace the body, and a recipient", { E('b', "new\r\n"),
	    E('-', "b@example.net\0"), E('+', "c@x.net\0"), E('c', "") },
	    false, "", HEADER_SAME, "new\r\n", "c@x.net", NULL, NULL },
};

static void
run_group(void *argument)
{
	static const char *const names[] = { "m", "m2", NULL };

	(void)argument;
	for (size_t i = 0; i < OPTION_COUNT(group_cases); i++) {
		const struct edit_case *c = &group_cases[i];
		struct peer_script script = { 0 };
		struct world w;

		memcpy(script.replies, c->replies, sizeof(c->replies));
		peer_begin(&script);
		world_init(&w, "group = g", names);
		world_play_all(&w, "CHMRDE");
		check_text(c->name, world_print_header, &w, c->header);
		check_text(c->name, world_print_body, &w, c->body);
		check_text(c->name, world_print_recipients, &w, c->recipients);
		CASE_ASSERT(c->name, peer_log.connections == 2);
		world_release(&w);
		peer_end();
		task_sleep(1);
	}
}

static void
groups_merge_in_order(void)
{
	world_task(run_group, NULL);
}

SUITE(milter,
    { "conversations", conversations_hold },
    { "conversations, byte by byte", conversations_hold_byte_by_byte },
    { "edits", edits_are_made },
    { "groups merge in order", groups_merge_in_order })
