/*
 * The client against scripted next hops: every way in which they can fail.
 *
 * A script's lines: "S text" says a line, "R bytes" says bytes, "C prefix"
 * expects a command, "D" takes content up to the dot, "F" floods with a
 * megabyte, "T" takes a TLS handshake, "X" closes, "Z" resets.  Behind its end
 * the server only listens.
 */
#define _GNU_SOURCE		/* memfd_create */
#include "gateway/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/task.h"
#include "base/tls.h"
#include "t/unit/unit.h"

/* A case names only what it has beyond the usual. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define STEPS_MAX 40
#define BYTES(text) text, sizeof(text) - 1

/* What stands before the envelope in most scripts. */
#define HELLO "S 220 mx ESMTP", "C EHLO me.test", "S 250-mx.test", \
	"S 250-PIPELINING", "S 250-SIZE 1000000", "S 250-8BITMIME", "S 250 DSN"
#define HELLO_PLAIN "S 220 mx ESMTP", "C EHLO me.test", "S 250 mx.test"
#define HELLO_LMTP "S 220 mx LMTP", "C LHLO me.test", "S 250-mx.test", \
	"S 250 PIPELINING"
#define ENVELOPE "C MAIL FROM:<s@x.test>", "C RCPT TO:<r0@y.test>", "C DATA"
#define ENVELOPE3 "C MAIL FROM:<s@x.test>", "C RCPT TO:<r0@y.test>", \
	"C RCPT TO:<r1@y.test>", "C RCPT TO:<r2@y.test>", "C DATA"

/* What a header gets when its body is converted. */
#define CONVERTED "MIME-Version: 1.0\r\nContent-Type: text/plain; "	\
	"charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
#define X25 "xxxxxxxxxxxxxxxxxxxxxxxxx"
#define X75 X25 X25 X25
#define X100 X75 X25
#define X1000 X100 X100 X100 X100 X100 X100 X100 X100 X100 X100
/* Behind six characters. */
#define SOFT "=\r\n"
#define X1000_QUOTED X25 X25 "xxxxxxxxxxxxxxxxxxx" SOFT X75 SOFT X75 SOFT X75 \
	SOFT X75 SOFT X75 SOFT X75 SOFT X75 SOFT X75 SOFT X75 SOFT X75 SOFT \
	X75 SOFT X75 SOFT X25 "xxxxxx"

enum { OK = DELIVERY_OK, TEMP = DELIVERY_TEMPORARY, PERM = DELIVERY_PERMANENT };

struct exchange {
	const char *name;
	bool lmtp;
	size_t recipients;
	const char *script[STEPS_MAX];
	bool open;			/* client_open succeeds */
	int status[3];
	const char *enhanced;		/* of the first recipient */
	const char *text;		/* part of its text */
	bool again;			/* the connection may be used again */
	/* how it differs from the usual */
	const char *content;
	size_t content_len;
	const char *want;		/* content as it arrives */
	const char *sender;
	bool utf8, refuse_self, nameless, in_file;
	enum client_tls tls;
	int64_t timeout_ms;
};

/* More than a socket takes at once. */
static char endless[12 << 20];

static const struct exchange exchanges[] = {
	{ "delivered", false, 1, { HELLO, ENVELOPE, "S 250 2.1.0 Ok",
	    "S 250 2.1.5 Ok", "S 354 go", "D", "S 250 2.0.0 Ok: queued" },
	    true, { OK }, "2.0.0", "250 2.0.0 Ok: queued", true },
	{ "without PIPELINING", false, 1, { HELLO_PLAIN, "C MAIL FROM:<s@x",
	    "S 250 Ok", "C RCPT", "S 250 Ok", "C DATA", "S 354 go", "D",
	    "S 250 Ok" }, true, { OK }, "2.0.0", "250 Ok", true },
	{ "HELO only", false, 1, { "S 220 old", "C EHLO", "S 500 what",
	    "C HELO me.test", "S 250 old", "C MAIL FROM:<s@x.test>\r\n",
	    "S 250 Ok", "C RCPT", "S 250 Ok", "C DATA", "S 354 go", "D",
	    "S 250 Ok" }, true, { OK }, "2.0.0", "250 Ok", true },
	{ "parameters", false, 1, { HELLO,
	    "C MAIL FROM:<s@x.test> SIZE=17 RET=HDRS ENVID=e1\r\n",
	    "C RCPT TO:<r0@y.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;r0@z",
	    "C DATA", "S 250 Ok", "S 250 Ok", "S 354 go", "D", "S 250 Ok" },
	    true, { OK }, "2.0.0", NULL, true },
	{ "AUTH announced", false, 1, { "S 220 x", "C EHLO",
	    "S 250-mx.test", "S 250 AUTH PLAIN",
	    "C MAIL FROM:<s@x.test> AUTH=u+2B1@x.test\r\n", "S 250 Ok",
	    "C RCPT", "S 250 Ok", "C DATA", "S 354 go", "D", "S 250 Ok" },
	    true, { OK }, "2.0.0", NULL, true },
	{ "AUTH not announced", false, 1, { HELLO_PLAIN,
	    "C MAIL FROM:<s@x.test>\r\n", "S 250 Ok", "C RCPT", "S 250 Ok",
	    "C DATA", "S 354 go", "D", "S 250 Ok" }, true, { OK }, "2.0.0",
	    NULL, true },
	{ "dots", false, 1, { HELLO, ENVELOPE, "S 250 Ok", "S 250 Ok",
	    "S 354 go", "D", "S 250 Ok" }, true, { OK }, "2.0.0", NULL, true,
	    .content = BYTES("A: b\r\n\r\n.\r\n..x\r\n"),
	    .want = "A: b\r\n\r\n..\r\n...x\r\n.\r\n" },
	{ "a bare LF is mended", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "S 250 Ok" }, true, { OK }, "2.0.0",
	    NULL, true, .content = BYTES("a\n.\nMAIL FROM:<e@x>\nb\r\n"),
	    .want = "a\r\n..\r\nMAIL FROM:<e@x>\r\nb\r\n.\r\n" },
	/* 8-bit text and long lines */
	{ "8-bit is declared", false, 1, { HELLO, "C MAIL FROM:<s@x.test> "
	    "SIZE=12 BODY=8BITMIME RET", "C RCPT", "C DATA", "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "S 250 Ok" }, true, { OK }, "2.0.0",
	    NULL, true, .content = BYTES("A: b\r\n\r\n\xc3\xa4\r\n"),
	    .want = "A: b\r\n\r\n\xc3\xa4\r\n.\r\n" },
	{ "8-bit is converted", false, 1, { "S 220 x", "C EHLO", "S 250-mx",
	    "S 250 SIZE 1000", "C MAIL FROM:<s@x.test> SIZE=126\r\n",
	    "S 250 Ok", "C RCPT", "S 250 Ok", "C DATA", "S 354 go", "D",
	    "S 250 Ok" }, true, { OK }, "2.0.0", NULL, true,
	    .content = BYTES("A: b\r\n\r\n\xc3\xa4\r\n.\r\n"),
	    .want = "A: b\r\n" CONVERTED "\r\n=C3=A4\r\n=2E\r\n.\r\n" },
	{ "8-bit is converted for LMTP", true, 1, { HELLO_LMTP,
	    "C MAIL FROM:<s@x.test>\r\n", "C RCPT", "C DATA", "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "S 250 Ok" }, true, { OK }, "2.0.0",
	    NULL, true, .content = BYTES("A: b\r\n\r\n\xc3\xa4\r\n"),
	    .want = "A: b\r\n" CONVERTED "\r\n=C3=A4\r\n.\r\n" },
	{ "a conversion that the peer has no room for", false, 1, {
	    "S 220 x", "C EHLO", "S 250-mx", "S 250 SIZE 100" }, true,
	    { PERM }, "5.3.4", "size 121 exceeds size limit 100", true,
	    .content = BYTES("A: b\r\n\r\n\xc3\xa4\r\n") },
	{ "8-bit that is signed", false, 1, { HELLO_PLAIN }, true, { PERM },
	    "5.6.3", "cannot be converted: it is signed", true,
	    .content = BYTES("DKIM-Signature: b\r\n\r\n\xc3\xa4\r\n") },
	{ "8-bit in the header", false, 1, { HELLO_PLAIN }, true, { PERM },
	    "5.6.3", "its header has 8-bit text", true,
	    .content = BYTES("A: \xc3\xa4\r\n\r\na\r\n") },
	{ "a long line is converted", false, 1, { HELLO, "C MAIL FROM:"
	    "<s@x.test> SIZE=1160 BODY=8BITMIME RET", "C RCPT", "C DATA",
	    "S 250 Ok", "S 250 Ok", "S 354 go", "D", "S 250 Ok" }, true,
	    { OK }, "2.0.0", NULL, true,
	    .content = BYTES("A: b\r\n\r\n\xc3\xa4" X1000 "\r\n"),
	    .want = "A: b\r\n" CONVERTED "\r\n=C3=A4" X1000_QUOTED
	    "\r\n.\r\n" },
	{ "a long line that is signed", false, 1, { HELLO, ENVELOPE,
	    "S 250 Ok", "S 250 Ok", "S 354 go", "D", "S 250 Ok" }, true,
	    { OK }, "2.0.0", NULL, true,
	    .content = BYTES("ARC-Seal: b\r\n\r\n" X1000 "\r\n"),
	    .want = "ARC-Seal: b\r\n\r\n" X1000 "\r\n.\r\n" },
	{ "a long line by LMTP", true, 1, { HELLO_LMTP, ENVELOPE,
	    "S 250 Ok", "S 250 Ok", "S 354 go", "D", "S 250 Ok" }, true,
	    { OK }, "2.0.0", NULL, true,
	    .content = BYTES("A: b\r\n\r\n" X1000 "\r\n"),
	    .want = "A: b\r\n\r\n" X1000 "\r\n.\r\n" },
	{ "a bare CR is refused", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go" }, true, { PERM }, "5.6.0", "bare CR",
	    false, .content = BYTES("a\r\n.\rb\r\n") },
	{ "a NUL is refused", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go" }, true, { PERM }, "5.6.0", "NUL",
	    false, .content = BYTES("a\0b\r\n") },
	/* greeting and EHLO */
	{ "greeting 421", false, 1, { "S 421 busy" }, false, { TEMP },
	    "4.0.0", "421 busy", false },
	{ "greeting 554", false, 1, { "S 554 5.7.1 go away" }, false, { PERM },
	    "5.7.1", "554 5.7.1 go away", false },
	{ "greeting 250", false, 1, { "S 250 hi" }, false, { TEMP }, "4.5.0",
	    NULL, false },
	{ "closed before the greeting", false, 1, { "X" }, false, { TEMP },
	    "4.4.2", "lost connection", false },
	{ "reset at EHLO", false, 1, { "S 220 x", "C EHLO", "Z" }, false, { TEMP },
	    "4.4.2", NULL, false },
	{ "garbage for a greeting", false, 1, { "S SSH-2.0-x" }, false,
	    { TEMP }, "4.4.2", "malformed", false },
	{ "a greeting without end", false, 1, { "F" }, false, { TEMP },
	    "4.4.2", "too long", false },
	{ "no greeting", false, 1, { NULL }, false, { TEMP }, "4.4.2",
	    "timed out", false, .timeout_ms = 20 },
	{ "a reply without CRLF", false, 1, { "R 220 x" }, false, { TEMP },
	    "4.4.2", "timed out", false, .timeout_ms = 20 },
	{ "closed at EHLO", false, 1, { "S 220 x", "C EHLO", "X" }, false,
	    { TEMP }, "4.4.2", NULL, false },
	{ "EHLO 451", false, 1, { "S 220 x", "C EHLO", "S 451 no" }, false,
	    { TEMP }, "4.0.0", "451 no", false },
	{ "EHLO and HELO 550", false, 1, { "S 220 x", "C EHLO", "S 550 no",
	    "C HELO", "S 550 no" }, false, { PERM }, "5.0.0", "550 no",
	    false },
	{ "it is myself", false, 1, { "S 220 x", "C EHLO",
	    "S 250-ME.test hello", "S 250 SIZE" }, false, { PERM }, "5.4.6",
	    "loops back", false, .refuse_self = true },
	/* the envelope */
	{ "MAIL 450", false, 1, { HELLO, ENVELOPE, "S 450 4.7.1 later",
	    "S 503 no MAIL", "S 503 no MAIL" }, true, { TEMP }, "4.7.1",
	    "450 4.7.1 later", true },
	{ "MAIL 550", false, 1, { HELLO, ENVELOPE, "S 550 no", "S 503 x",
	    "S 503 x" }, true, { PERM }, "5.0.0", "550 no", true },
	{ "MAIL 550, then 354", false, 1, { HELLO, ENVELOPE, "S 550 no",
	    "S 503 x", "S 354 go", "C .\r\n", "S 554 none" }, true, { PERM },
	    "5.0.0", "550 no", true },
	{ "RCPT mixed", false, 3, { HELLO, ENVELOPE3, "S 250 Ok", "S 250 Ok",
	    "S 450 4.2.0 grey", "S 550 5.1.1 unknown", "S 354 go", "D",
	    "S 250 Ok" }, true, { OK, TEMP, PERM }, "2.0.0", NULL, true },
	{ "RCPT all refused, 354", false, 3, { HELLO, ENVELOPE3, "S 250 Ok",
	    "S 550 a", "S 550 b", "S 550 c", "S 354 go", "C .\r\n",
	    "S 554 none" }, true, { PERM, PERM, PERM }, "5.0.0", "550 a",
	    true },
	{ "RCPT all refused, 503", false, 3, { HELLO, ENVELOPE3, "S 250 Ok",
	    "S 550 a", "S 550 b", "S 450 c", "S 503 none" }, true,
	    { PERM, PERM, TEMP }, "5.0.0", "550 a", true },
	{ "RCPT 552 is too many", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 552 too many", "S 503 x" }, true, { TEMP }, "4.5.3", NULL,
	    true },
	{ "RCPT 552 5.2.2 is full", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 552 5.2.2 full", "S 503 x" }, true, { PERM }, "5.2.2", NULL,
	    true },
	{ "RCPT 421", false, 3, { HELLO, ENVELOPE3, "S 250 Ok", "S 250 Ok",
	    "S 421 bye", "X" }, true, { TEMP, TEMP, TEMP }, "4.4.2", NULL,
	    false },
	{ "RCPT answered twice", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 250 Ok", "S 354 go" }, true, { TEMP }, "4.5.0",
	    "unexpected reply", false },
	{ "RCPT 354", false, 1, { HELLO, ENVELOPE, "S 250 Ok", "S 354 go" },
	    true, { TEMP }, "4.5.0", NULL, false },
	{ "closed after MAIL", false, 1, { HELLO, ENVELOPE, "S 250 Ok", "X" },
	    true, { TEMP }, "4.4.2", "RCPT TO", false },
	{ "reset after RCPT", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "Z" }, true, { TEMP }, "4.4.2", NULL, false },
	{ "a reply of several codes", false, 1, { HELLO, ENVELOPE,
	    "S 250-Ok", "S 550 no" }, true, { TEMP }, "4.4.2", "differing",
	    false },
	{ "a reply without end", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "F" }, true, { TEMP }, "4.4.2", "too long", false },
	/* content */
	{ "552 before the dot", false, 1, { HELLO_PLAIN, "C MAIL", "S 250 Ok",
	    "C RCPT", "S 250 Ok", "C DATA", "S 354 go", "C Subject: x",
	    "S 552 5.3.4 enough", "X" }, true, { PERM }, "5.3.4", "552 5.3.4 enough", false,
	    .content = endless, .content_len = sizeof(endless) },
	{ "DATA 451", false, 1, { HELLO, ENVELOPE, "S 250 Ok", "S 250 Ok",
	    "S 451 4.3.0 no" }, true, { TEMP }, "4.3.0", NULL, true },
	{ "DATA 554", false, 1, { HELLO, ENVELOPE, "S 250 Ok", "S 250 Ok",
	    "S 554 no" }, true, { PERM }, "5.0.0", NULL, true },
	{ "250 before the dot", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "R 354 go\r\n250 Ok\r\n" }, true, { TEMP }, "4.5.0",
	    "before the end", false },
	{ "closed after 354", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "X" }, true, { TEMP }, "4.4.2", NULL,
	    false },
	{ "closed after the dot", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "X" }, true, { TEMP }, "4.4.2",
	    "more than once", false },
	{ "silent after the dot", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D" }, true, { TEMP }, "4.4.2",
	    "timed out", false, .timeout_ms = 50 },
	{ "452 after the dot", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "S 452 4.3.1 full" }, true,
	    { TEMP }, "4.3.1", NULL, true },
	{ "550 after the dot", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "S 550 5.7.1 spam" }, true,
	    { PERM }, "5.7.1", "550 5.7.1 spam", true },
	{ "421 after the dot", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "S 421 bye" }, true, { TEMP },
	    "4.0.0", NULL, false },
	{ "one reply too many", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "R 250 Ok\r\n250 Ok\r\n" }, true,
	    { OK }, "2.0.0", NULL, false },
	/* LMTP */
	{ "LMTP mix", true, 3, { HELLO_LMTP, ENVELOPE3, "S 250 Ok", "S 250 Ok",
	    "S 250 Ok", "S 250 Ok", "S 354 go", "D", "S 250 2.0.0 saved",
	    "S 452 4.2.2 over quota", "S 550 5.7.1 no" }, true,
	    { OK, TEMP, PERM }, "2.0.0", "250 2.0.0 saved", true },
	{ "LMTP replies go to the accepted", true, 3, { HELLO_LMTP, ENVELOPE3,
	    "S 250 Ok", "S 250 Ok", "S 550 5.1.1 who", "S 250 Ok", "S 354 go",
	    "D", "S 452 4.2.2 full", "S 250 Ok" }, true, { TEMP, PERM, OK },
	    "4.2.2", NULL, true },
	{ "LMTP, fewer replies, closed", true, 3, { HELLO_LMTP, ENVELOPE3,
	    "S 250 Ok", "S 250 Ok", "S 250 Ok", "S 250 Ok", "S 354 go", "D",
	    "S 250 Ok", "X" }, true, { OK, TEMP, TEMP }, "2.0.0", NULL,
	    false },
	{ "LMTP, fewer replies, silent", true, 3, { HELLO_LMTP, ENVELOPE3,
	    "S 250 Ok", "S 250 Ok", "S 250 Ok", "S 250 Ok", "S 354 go", "D",
	    "S 250 Ok", "S 550 no" }, true, { OK, PERM, TEMP }, "2.0.0",
	    NULL, false, .timeout_ms = 50 },
	{ "LMTP has no HELO", true, 1, { "S 220 x", "C LHLO", "S 500 what" },
	    false, { PERM }, "5.0.0", NULL, false },
	/* what is known before */
	{ "larger than SIZE", false, 1, { "S 220 x", "C EHLO", "S 250-x",
	    "S 250 SIZE 10" }, true, { PERM }, "5.3.4", "exceeds", true },
	{ "SMTPUTF8 is missing", false, 1, { HELLO }, true, { PERM }, "5.6.7",
	    "SMTPUTF8", true, .sender = "\xc3\xa4@x.test" },
	{ "SMTPUTF8 without need", false, 1, { HELLO, ENVELOPE, "S 250 Ok",
	    "S 250 Ok", "S 354 go", "D", "S 250 Ok" }, true, { OK }, "2.0.0",
	    NULL, true, .utf8 = true },
	{ "SMTPUTF8 without need, in a file", false, 1, { HELLO, ENVELOPE,
	    "S 250 Ok", "S 250 Ok", "S 354 go", "D", "S 250 Ok" }, true, { OK },
	    "2.0.0", NULL, true, .utf8 = true, .in_file = true },
	{ "SMTPUTF8 header in a file", false, 1, { HELLO }, true, { PERM },
	    "5.6.7", NULL, true, .utf8 = true, .in_file = true,
	    .content = BYTES("Subject: \xc3\xa4\r\n\r\nx\r\n") },
	{ "SMTPUTF8 header", false, 1, { HELLO }, true, { PERM }, "5.6.7",
	    NULL, true, .utf8 = true,
	    .content = BYTES("Subject: \xc3\xa4\r\n\r\nx\r\n") },
	{ "a command in the sender", false, 1, { HELLO }, true, { PERM },
	    "5.1.7", NULL, true, .sender = "a@b>\r\nRCPT TO:<c@d" },
	/* TLS */
	{ "TLS required, not offered", false, 1, { HELLO }, false, { TEMP },
	    "4.7.0", "not offered", false, .tls = CLIENT_TLS_REQUIRE },
	{ "TLS required, refused", false, 1, { "S 220 x", "C EHLO", "S 250-x",
	    "S 250 STARTTLS", "C STARTTLS", "S 454 no" }, false, { TEMP },
	    "4.7.0", "454 no", false, .tls = CLIENT_TLS_REQUIRE },
	{ "TLS welcome, refused", false, 1, { "S 220 x", "C EHLO", "S 250-x",
	    "S 250-PIPELINING", "S 250 STARTTLS", "C STARTTLS", "S 454 no",
	    ENVELOPE, "S 250 Ok", "S 250 Ok", "S 354 go", "D", "S 250 Ok" },
	    true, { OK }, "2.0.0", NULL, true, .tls = CLIENT_TLS_MAY },
	{ "TLS, bytes behind the 220", false, 1, { "S 220 x", "C EHLO",
	    "S 250-x", "S 250 STARTTLS", "C STARTTLS",
	    "R 220 go\r\n250-fake\r\n250 SIZE\r\n" }, false, { TEMP },
	    "4.7.0", "clear text", false, .tls = CLIENT_TLS_MAY },
	{ "TLS, no handshake", false, 1, { "S 220 x", "C EHLO", "S 250-x",
	    "S 250 STARTTLS", "C STARTTLS", "S 220 go", "X" }, false,
	    { TEMP }, "4.7.5", "Cannot start TLS", false,
	    .tls = CLIENT_TLS_MAY },
	/* PIPELINING is offered before the handshake only: it counts no more. */
	{ "TLS", false, 1, { "S 220 x", "C EHLO", "S 250-x",
	    "S 250-PIPELINING", "S 250 STARTTLS", "C STARTTLS", "S 220 go",
	    "T", "C EHLO me.test", "S 250-x", "S 250 SIZE",
	    "C MAIL FROM:<s@x.test> SIZE=17\r\n", "S 250 Ok", "C RCPT",
	    "S 250 Ok", "C DATA", "S 354 go", "D", "S 250 Ok" }, true, { OK },
	    "2.0.0", NULL, true, .tls = CLIENT_TLS_REQUIRE },
	{ "TLS with an address", false, 1, { "S 220 x", "C EHLO", "S 250-x",
	    "S 250 STARTTLS", "C STARTTLS", "S 220 go", "T", "C EHLO me.test",
	    "S 250 x", "C MAIL FROM:<s@x.test>\r\n", "S 250 Ok", "C RCPT",
	    "S 250 Ok", "C DATA", "S 354 go", "D", "S 250 Ok" }, true, { OK },
	    "2.0.0", NULL, true, .tls = CLIENT_TLS_REQUIRE, .nameless = true },
	{ "TLS, the certificate is bad", false, 1, { "S 220 x", "C EHLO",
	    "S 250-x", "S 250 STARTTLS", "C STARTTLS", "S 220 go", "T" },
	    false, { TEMP }, "4.7.5", "Cannot start TLS", false,
	    .tls = CLIENT_TLS_VERIFY },
};

static struct tls_context *server_tls, *any_tls, *verify_tls;

static struct tls_context *
make_server_tls(void)
{
	static const struct tls_settings settings = { "TLSv1.2", NULL, "s" };
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	BIO *cert_pem = BIO_new(BIO_s_mem()), *key_pem = BIO_new(BIO_s_mem());
	struct tls_context *context;
	char *cert_bytes, *key_bytes;
	const char *why = "";
	long cert_len, key_len;

	X509_set_version(cert, 2);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN",
	    MBSTRING_ASC, (const unsigned char *)"mx.test", -1, -1, 0);
	X509_set_issuer_name(cert, X509_get_subject_name(cert));
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	PEM_write_bio_X509(cert_pem, cert);
	PEM_write_bio_PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL);
	cert_len = BIO_get_mem_data(cert_pem, &cert_bytes);
	key_len = BIO_get_mem_data(key_pem, &key_bytes);
	context = tls_server_new(&settings, cert_bytes, (size_t)cert_len,
	    key_bytes, (size_t)key_len, &why);
	X509_free(cert);
	EVP_PKEY_free(key);
	BIO_free(cert_pem);
	BIO_free(key_pem);
	return context;
}

/* One run of a case: the server's side and the client's. */
struct run {
	const struct exchange *exchange;
	int listener;
	struct net_endpoint endpoint;
	struct buf content, rest;
};

static void
reset(struct io *io)
{
	struct linger linger = { 1, 0 };

	setsockopt(io_fd(io), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

static void
take_content(struct run *run, struct io *io)
{
	const char *line;
	size_t len;

	while (io_read_line(io, 16000, &line, &len, task_deadline(1000)) == 1) {
		buf_append(&run->content, line, len);
		if (len == 3 && memcmp(line, ".\r\n", 3) == 0)
			return;
	}
}

/* False: the connection is over. */
static bool
step(struct run *run, struct io *io, const char *what)
{
	const char *line, *argument = what + (what[1] == ' ' ? 2 : 1);
	static char flood[1024 * 1024];
	size_t len;

	switch (*what) {
	case 'S':
	case 'R':
		io_printf(io, "%s%s", argument, *what == 'S' ? "\r\n" : "");
		return true;
	case 'C':
		io_flush(io, task_deadline(1000));
		if (io_read_line(io, 16000, &line, &len,
		    task_deadline(1000)) != 1) {
			CASE_ASSERT(run->exchange->name, !"a command");
			return false;
		}
		CASE_ASSERT(run->exchange->name, len >= strlen(argument) &&
		    memcmp(line, argument, strlen(argument)) == 0);
		return true;
	case 'D':
		io_flush(io, task_deadline(1000));
		take_content(run, io);
		return true;
	case 'F':
		memset(flood, '2', sizeof(flood));
		io_put(io, flood, sizeof(flood));
		io_flush(io, task_deadline(1000));
		return true;
	case 'T':
		io_flush(io, task_deadline(1000));
		return io_tls_accept(io, server_tls, task_deadline(1000)) == 0;
	case 'Z':
		reset(io);
		/* FALLTHROUGH */
	default:
		return false;
	}
}

static void
serve(void *argument)
{
	struct run *run = argument;
	bool goes_on = true;
	const char *bytes;
	struct io *io;
	size_t len;
	int fd;

	task_wait_fd(run->listener, TASK_READ, task_deadline(1000));
	fd = accept(run->listener, NULL, NULL);
	CU_ASSERT_FATAL(fd != -1);
	io = io_new(fd);
	for (size_t i = 0; goes_on && run->exchange->script[i] != NULL; i++)
		goes_on = step(run, io, run->exchange->script[i]);
	io_flush(io, task_deadline(1000));
	while (goes_on && io_fill(io, task_deadline(1000)) > 0)
		;
	if (goes_on) {
		bytes = io_input(io, &len);
		buf_append(&run->rest, bytes, len);
	}
	io_free(&io);
}

static void
check(const struct run *run, const struct delivery *results, size_t count)
{
	const struct exchange *exchange = run->exchange;

	for (size_t i = 0; i < count; i++)
		CASE_ASSERT(exchange->name,
		    (int)results[i].status == exchange->status[i]);
	CASE_ASSERT(exchange->name,
	    strcmp(results[0].enhanced, exchange->enhanced) == 0);
	if (exchange->text != NULL)
		CASE_ASSERT(exchange->name,
		    strstr(results[0].text, exchange->text) != NULL);
	if (exchange->want != NULL)
		CASE_ASSERT(exchange->name, run->content.len ==
		    strlen(exchange->want) && memcmp(run->content.data,
		    exchange->want, run->content.len) == 0);
}

static void
envelope_make(struct envelope *envelope, const struct exchange *exchange,
    struct arena *arena)
{
	memset(envelope, 0, sizeof(*envelope));
	envelope->sender = exchange->sender != NULL ? exchange->sender :
	    "s@x.test";
	envelope->smtputf8 = exchange->utf8;
	envelope->ret = "HDRS";
	envelope->envid = "e1";
	envelope->submitter = "u+2B1@x.test";
	for (size_t i = 0; i < exchange->recipients; i++) {
		struct recipient *recipient = envelope_add_recipient(envelope,
		    arena, arena_printf(arena, "r%zu@y.test", i));

		recipient->notify = NOTIFY_SUCCESS | NOTIFY_FAILURE;
		recipient->orcpt = "rfc822;r0@z.test";
	}
}

static void
deliver(void *argument)
{
	struct run *run = argument;
	const struct exchange *exchange = run->exchange;
	int64_t timeout = exchange->timeout_ms ? exchange->timeout_ms : 2000;
	struct client_settings settings = {
		.lmtp = exchange->lmtp, .hostname = "me.test",
		.peer_name = exchange->nameless ? NULL : "mx.test",
		.tls = exchange->tls,
		.tls_context = exchange->tls == CLIENT_TLS_VERIFY ?
		    verify_tls : any_tls,
		.connect_timeout_ms = timeout,
		.greeting_timeout_ms = timeout, .command_timeout_ms = timeout,
		.data_timeout_ms = timeout,
		.refuse_self = exchange->refuse_self,
	};
	struct slice content = { exchange->content, -1, 0,
	    exchange->content_len };
	struct arena *arena = arena_new(0);
	struct delivery results[3] = { 0 };
	struct envelope envelope;
	struct recipient *recipient;
	struct client *client;
	size_t n = 0;
	bool again;

	if (content.data == NULL) {
		content.data = "Subject: x\r\n\r\na\r\n";
		content.len = 17;
	}
	envelope_make(&envelope, exchange, arena);
	for (recipient = envelope.recipients; recipient != NULL;
	    recipient = recipient->next)
		results[n++].recipient = recipient;
	if (exchange->in_file) {
		content.fd = memfd_create("content", MFD_CLOEXEC);
		CU_ASSERT_EQUAL(write(content.fd, content.data, content.len),
		    (ssize_t)content.len);
		content.data = NULL;
	}
	client = client_open(&run->endpoint, &settings, arena, &results[0]);
	CASE_ASSERT(exchange->name, (client != NULL) == exchange->open);
	if (client == NULL) {
		check(run, results, 1);
	} else {
		again = client_deliver(client, &envelope, &content, 1,
		    content.len, results, n, arena);
		check(run, results, n);
		CASE_ASSERT(exchange->name, again == exchange->again);
		CASE_ASSERT(exchange->name, !again || client_alive(client));
	}
	client_close(&client);
	if (content.fd != -1)
		close(content.fd);
	arena_free(&arena);
}

static void
run_exchange(const struct exchange *exchange)
{
	struct run run = { .exchange = exchange, .content = BUF_INIT,
	    .rest = BUF_INIT };
	const char *why;

	task_init();
	CU_ASSERT_FATAL(net_endpoint_parse("127.0.0.1:0", &run.endpoint,
	    &why) == 0);
	run.listener = net_listen(&run.endpoint, 5, 0, &why);
	CU_ASSERT_FATAL(run.listener != -1);
	run.endpoint.len = sizeof(run.endpoint.address);
	getsockname(run.listener, (struct sockaddr *)&run.endpoint.address,
	    &run.endpoint.len);
	task_detach("server", serve, &run);
	task_detach("client", deliver, &run);
	task_loop();
	/* Nothing but QUIT follows, least of all a final dot. */
	CASE_ASSERT(exchange->name, run.rest.len == 0 ||
	    strcmp(run.rest.data, "QUIT\r\n") == 0 ||
	    strstr(run.rest.data, "\r\n.\r\n") == NULL);
	close(run.listener);
	task_shutdown();
	buf_release(&run.content);
	buf_release(&run.rest);
}

static void
table(void)
{
	static const struct tls_settings settings = { "TLSv1.2", NULL, "t" };
	const char *why;

	server_tls = make_server_tls();
	any_tls = tls_client_new(&settings, TLS_VERIFY_NONE, NULL, 0, &why);
	verify_tls = tls_client_new(&settings, TLS_VERIFY_NAME, NULL, 0, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(server_tls);
	CU_ASSERT_PTR_NOT_NULL_FATAL(any_tls);
	CU_ASSERT_PTR_NOT_NULL_FATAL(verify_tls);
	for (size_t i = 0; i < sizeof(endless); i += 12)
		memcpy(endless + i, "Subject: x\r\n", 12);
	for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++)
		run_exchange(&exchanges[i]);
	tls_context_free(&server_tls);
	tls_context_free(&any_tls);
	tls_context_free(&verify_tls);
}

static void
texts(void)
{
	struct delivery delivery = { .code = 550, .text = "550 5.1.1 no one" };

	CU_ASSERT_STRING_EQUAL(delivery_text(&delivery), "no one");
	delivery.text = "550 plain text";
	CU_ASSERT_STRING_EQUAL(delivery_text(&delivery), "plain text");
	delivery.text = "550";
	CU_ASSERT_STRING_EQUAL(delivery_text(&delivery), "");
	delivery.code = 0;
	delivery.text = "connect: refused";
	CU_ASSERT_STRING_EQUAL(delivery_text(&delivery), "connect: refused");
}

SUITE(client, { "exchanges", table }, { "texts", texts })
