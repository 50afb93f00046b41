/*
 * The packets of the milter protocol, versions 2 to 6, in both directions.
 * Pure functions of bytes: nothing here waits, and every length is checked
 * before use.
 *
 * packet: uint32 length (of what follows), one command byte, payload.
 */
#ifndef FILTERS_MILTER_CODEC_H
#define FILTERS_MILTER_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct buf;
struct sockaddr;

#define MILTER_VERSION		6
#define MILTER_PAYLOAD_MAX	65535	/* libmilter resets beyond it */
#define MILTER_STAGES		7

/* MTA to filter. */
enum milter_command_code {
	MILTER_OPTNEG = 'O', MILTER_MACRO = 'D', MILTER_CONNECT = 'C',
	MILTER_HELO = 'H', MILTER_MAIL = 'M', MILTER_RCPT = 'R',
	MILTER_DATA = 'T', MILTER_HEADER = 'L', MILTER_EOH = 'N',
	MILTER_BODY = 'B', MILTER_EOB = 'E', MILTER_UNKNOWN = 'U',
	MILTER_ABORT = 'A', MILTER_QUIT = 'Q', MILTER_QUIT_NC = 'K'
};

/* Filter to MTA. */
enum milter_reply_code {
	MILTER_CONTINUE = 'c', MILTER_ACCEPT = 'a', MILTER_REJECT = 'r',
	MILTER_TEMPFAIL = 't', MILTER_DISCARD = 'd', MILTER_SKIP = 's',
	MILTER_PROGRESS = 'p', MILTER_REPLYCODE = 'y', MILTER_SHUTDOWN = '4',
	MILTER_CONN_FAIL = 'f',
	MILTER_ADDRCPT = '+', MILTER_ADDRCPT_PAR = '2', MILTER_DELRCPT = '-',
	MILTER_CHGFROM = 'e', MILTER_ADDHEADER = 'h', MILTER_INSHEADER = 'i',
	MILTER_CHGHEADER = 'm', MILTER_REPLBODY = 'b', MILTER_QUARANTINE = 'q'
};

enum milter_action_bits {
	MILTER_MAY_ADDHDRS = 0x01, MILTER_MAY_CHGBODY = 0x02,
	MILTER_MAY_ADDRCPT = 0x04, MILTER_MAY_DELRCPT = 0x08,
	MILTER_MAY_CHGHDRS = 0x10, MILTER_MAY_QUARANTINE = 0x20,
	MILTER_MAY_CHGFROM = 0x40, MILTER_MAY_ADDRCPT_PAR = 0x80,
	MILTER_MAY_SETSYMLIST = 0x100,
	MILTER_ACTIONS_ALL = 0x1ff
};

/* NO: does not want it.  NR: will not reply to it. */
enum milter_protocol_bits {
	MILTER_NO_CONNECT = 0x01, MILTER_NO_HELO = 0x02, MILTER_NO_MAIL = 0x04,
	MILTER_NO_RCPT = 0x08, MILTER_NO_BODY = 0x10, MILTER_NO_HEADERS = 0x20,
	MILTER_NO_EOH = 0x40, MILTER_NR_HEADER = 0x80,
	MILTER_NO_UNKNOWN = 0x100, MILTER_NO_DATA = 0x200,
	MILTER_CAN_SKIP = 0x400, MILTER_RCPT_REJECTED = 0x800,
	MILTER_NR_CONNECT = 0x1000, MILTER_NR_HELO = 0x2000,
	MILTER_NR_MAIL = 0x4000, MILTER_NR_RCPT = 0x8000,
	MILTER_NR_DATA = 0x10000, MILTER_NR_UNKNOWN = 0x20000,
	MILTER_NR_EOH = 0x40000, MILTER_NR_BODY = 0x80000,
	MILTER_LEADING_SPACE = 0x100000,
	MILTER_PROTOCOL_ALL = 0x1fffff
};

/* Stages that have macros of their own, by their number in SETSYMLIST. */
enum milter_stage { MILTER_AT_CONNECT, MILTER_AT_HELO, MILTER_AT_MAIL,
	MILTER_AT_RCPT, MILTER_AT_DATA, MILTER_AT_EOM, MILTER_AT_EOH };

/* --- framing --- */

struct milter_packet {
	char code;
	const char *payload;
	size_t len;			/* of the payload */
	size_t size;			/* of the whole packet */
};

/*
 * Looks for a packet at the front of bytes, whose payload is at most max.
 * 1: *packet points into bytes.  0: packet->size bytes are needed (at least).
 * -1: no milter speaks so; *why, in why_buffer if it quotes the bytes.
 */
#define MILTER_WHY_SIZE 96
int milter_packet_parse(const char *bytes, size_t len, size_t max,
    struct milter_packet *, char why[MILTER_WHY_SIZE]);

/* Appends a packet; payload may be NULL if len is 0. */
void milter_put(struct buf *, char code, const void *payload, size_t len);

/* The head of a packet whose payload of len bytes is sent from elsewhere. */
void milter_put_head(struct buf *, char code, size_t len);

/* A packet in parts: begin, any of the parts, end. */
size_t milter_begin(struct buf *, char code);
void milter_put_u32(struct buf *, uint32_t);
void milter_put_string(struct buf *, const char *);	/* with its NUL */
void milter_end(struct buf *, size_t begin);

/* --- negotiation --- */

struct milter_negotiation {
	uint32_t version, actions, protocol;
	const char *macros[MILTER_STAGES];	/* list asked for, or NULL */
	bool macros_cut;			/* the last list had no NUL */
};

void milter_put_negotiation(struct buf *, const struct milter_negotiation *);

/* The payload of an O packet; lists point into it.  -1: *why. */
int milter_negotiation_parse(const char *payload, size_t len,
    struct milter_negotiation *, const char **why);

/* --- commands --- */

/* The connection: host name, family and address as milters expect them. */
void milter_put_connect(struct buf *, const char *host,
    const struct sockaddr *);

/* MAIL and RCPT: "<address>" and one string for each ESMTP argument. */
void milter_put_envelope(struct buf *, char code, const char *address,
    const char *const *arguments);

/*
 * A field from its raw bytes: name, and value with folds as LF and white space
 * and one leading space dropped unless leading_space.  -1 if it's too long to
 * be carried; then nothing was added.
 */
int milter_put_header(struct buf *, const char *raw, size_t len,
    size_t name_len, bool leading_space);

struct milter_command {
	char code;
	const char *first, *second;	/* strings: host, name, address; value */
	const char *arguments;		/* further strings, one after another */
	size_t arguments_len;
	char family;			/* CONNECT: 'U', 'L', '4', '6' */
	unsigned port;			/* CONNECT */
	char macro_for;			/* MACRO: the command it belongs to */
	const char *bytes;		/* BODY, EOB, OPTNEG: payload */
	size_t len;
};

/* What an MTA sent; strings point into the packet.  -1: *why. */
int milter_command_parse(const struct milter_packet *,
    struct milter_command *, const char **why);

/* The next of the strings in arguments, or NULL; *at begins with 0. */
const char *milter_argument_next(const struct milter_command *, size_t *at);

/* --- replies --- */

struct milter_reply {
	char code;
	const char *first, *second;	/* strings, ended by NUL; or NULL */
	uint32_t index;			/* INSHEADER, CHGHEADER */
	const char *bytes;		/* REPLBODY, REPLYCODE: payload */
	size_t len;
};

/* What a filter sent; strings point into the packet.  -1: *why. */
int milter_reply_parse(const struct milter_packet *, struct milter_reply *,
    const char **why);

/* Changes the message, and so only allowed between EOB and its answer. */
bool milter_reply_edits(char code);

/*
 * The text of a REPLYCODE: code, enhanced code (or NULL), lines parted by \n
 * without codes.  -1 with *why if it is no SMTP reply of class 4 or 5.
 */
struct milter_text {
	int code;
	const char *enhanced;
	const char *text;
};
int milter_text_parse(const char *payload, size_t len, struct arena *,
    struct milter_text *, const char **why);

/* The opposite, as libmilter writes it: "550-5.7.1 a\r\n550 5.7.1 b". */
void milter_put_text(struct buf *, int code, const char *enhanced,
    const char *text);

#endif
