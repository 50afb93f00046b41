/*
 * SMTP command lines (RFC 5321, 4.1; parameters: RFC 1870, 3461, 6152, 6531,
 * 4954; BDAT: RFC 3030).
 */
#include "gateway/smtp_command.h"

#include <string.h>

#include "filters/envelope.h"
#include "gateway/sasl.h"
#include "gateway/sasl_line.h"
#include "gateway/smtp_path.h"

#define ENVID_MAX 100		/* RFC 3461, 4.4 */
#define ORCPT_MAX 500		/* RFC 3461, 4.2 */
#define SIZE_DIGITS 20		/* RFC 1870, 3 */
#define SUBMITTER_MAX 500	/* RFC 4954, 3 */

static const char *const verb_names[SMTP_VERB_COUNT] = {
	[SMTP_EHLO] = "EHLO", [SMTP_HELO] = "HELO", [SMTP_MAIL] = "MAIL",
	[SMTP_RCPT] = "RCPT", [SMTP_DATA] = "DATA", [SMTP_BDAT] = "BDAT",
	[SMTP_RSET] = "RSET", [SMTP_NOOP] = "NOOP", [SMTP_VRFY] = "VRFY",
	[SMTP_HELP] = "HELP", [SMTP_QUIT] = "QUIT",
	[SMTP_STARTTLS] = "STARTTLS", [SMTP_AUTH] = "AUTH",
	[SMTP_UNKNOWN] = "UNKNOWN", [SMTP_FOREIGN] = "FOREIGN"
};

/* First words of what a web browser can be made to send here. */
static const char *const foreign_words[] = {
	"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH",
	"HOST:", "USER-AGENT:", "CONTENT-TYPE:", "CONTENT-LENGTH:"
};

static const struct smtp_error
    error_control = { 501, "5.5.2", "Control character in command" },
    error_helo = { 501, "5.5.4", "Syntax: EHLO hostname" },
    error_mail = { 501, "5.5.4", "Syntax: MAIL FROM:<address>" },
    error_rcpt = { 501, "5.5.4", "Syntax: RCPT TO:<address>" },
    error_sender = { 553, "5.1.7", "Bad sender address syntax" },
    error_recipient = { 553, "5.1.3", "Bad recipient address syntax" },
    error_sender_utf8 = { 553, "5.6.7", "Address needs SMTPUTF8" },
    error_bdat = { 501, "5.5.4", "Syntax: BDAT size [LAST]" },
    error_unknown = { 555, "5.5.4", "Unsupported parameter" },
    error_many = { 501, "5.5.4", "Too many parameters" },
    error_value = { 501, "5.5.4", "Bad parameter" },
    error_twice = { 501, "5.5.4", "Parameter given twice" },
    error_size = { 501, "5.5.4", "Bad SIZE parameter" },
    error_huge = { 552, "5.3.4", "Message size exceeds fixed limit" },
    error_body = { 501, "5.5.4", "Bad BODY parameter" },
    error_auth = { 501, "5.5.4", "Syntax: AUTH mechanism [response]" },
    error_mechanism = { 504, "5.5.4", "Unrecognized authentication type" },
    error_base64 = { 501, "5.5.2", "Not base64" },
    error_long_response = { 500, "5.5.6",
	"Authentication exchange line is too long" },
    error_submitter = { 501, "5.5.4", "Bad AUTH parameter" },
    error_dsn = { 501, "5.5.4", "Bad delivery status parameter" };

static bool
is_digit(unsigned char byte)
{
	return byte >= '0' && byte <= '9';
}

void
smtp_command_parse(const char *line, size_t len, struct smtp_command *command)
{
	struct smtp_span word = { line, 0 };

	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	while (word.len < len && !smtp_is_blank(line[word.len]))
		word.len++;
	command->argument = smtp_span_trim((struct smtp_span){ line + word.len,
	    len - word.len });
	command->verb = SMTP_UNKNOWN;
	for (int i = 0; i < SMTP_UNKNOWN; i++)
		if (smtp_span_is(word, verb_names[i]))
			command->verb = (enum smtp_verb)i;
	if (command->verb != SMTP_UNKNOWN)
		return;
	for (size_t i = 0; i < sizeof foreign_words / sizeof *foreign_words;
	    i++)
		if (smtp_span_is(word, foreign_words[i]))
			command->verb = SMTP_FOREIGN;
}

const char *
smtp_verb_name(enum smtp_verb verb)
{
	return verb < SMTP_VERB_COUNT ? verb_names[verb] : "UNKNOWN";
}

/*
 * The name goes into Received and Authentication-Results fields: specials of
 * RFC 5322 would end a comment there, so they are refused.
 */
const struct smtp_error *
smtp_parse_helo(struct smtp_span name)
{
	if (smtp_span_has_control(name))
		return &error_control;
	if (name.len == 0 || name.len > SMTP_DOMAIN_MAX)
		return &error_helo;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char byte = (unsigned char)name.data[i];

		if (byte <= ' ' || byte >= 0x7F ||
		    strchr("()<>@,;\\\"", byte) != NULL)
			return &error_helo;
	}
	return NULL;
}

/* One parameter, parted into its keyword and its value (data NULL: none). */
struct parameter {
	struct smtp_span keyword, value;
};

/*
 * Takes the next parameter off *text: 1; none left: 0; not one: -1.  RFC 5321,
 * 4.1.2: esmtp-keyword ["=" esmtp-value].
 */
static int
next_parameter(struct smtp_span *text, struct smtp_span *whole,
    struct parameter *parameter)
{
	size_t len = 0, name = 0;

	*text = smtp_span_trim(*text);
	if (text->len == 0)
		return 0;
	while (len < text->len && !smtp_is_blank(text->data[len]))
		len++;
	*whole = (struct smtp_span){ text->data, len };
	*text = smtp_span_behind(*text, len);
	while (name < len && (smtp_is_alnum(whole->data[name]) ||
	    (name > 0 && whole->data[name] == '-')))
		name++;
	parameter->keyword = (struct smtp_span){ whole->data, name };
	parameter->value = (struct smtp_span){ NULL, 0 };
	if (name == 0 || (name < len && whole->data[name] != '='))
		return -1;
	if (name == len)
		return 1;
	parameter->value = smtp_span_behind(*whole, name + 1);
	return parameter->value.len > 0 ? 1 : -1;
}

static int
hex_digit(unsigned char byte)
{
	if (is_digit(byte))
		return byte - '0';
	if (byte >= 'A' && byte <= 'F')
		return byte - 'A' + 10;
	return -1;
}

bool
smtp_xtext_ok(struct smtp_span text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char byte = (unsigned char)text.data[i];
		int high, low;

		if (byte < 33 || byte > 126)
			return false;
		if (byte != '+')
			continue;
		if (i + 2 >= text.len)
			return false;
		high = hex_digit((unsigned char)text.data[i + 1]);
		low = hex_digit((unsigned char)text.data[i + 2]);
		if (high < 0 || low < 0)
			return false;
		/* +0D+0A would end a line wherever it is decoded. */
		if (high * 16 + low < 0x20 || high * 16 + low == 0x7F)
			return false;
		i += 2;
	}
	return true;
}

/* RFC 4954, 5: <>, or a mailbox in xtext. */
static bool
submitter_parse(struct smtp_span value, struct smtp_mail *mail)
{
	char plain[SUBMITTER_MAX];
	struct smtp_span mailbox = { plain, 0 };
	struct smtp_path path = { 0 };

	if (smtp_span_is(value, "<>"))
		return true;
	if (value.len > SUBMITTER_MAX || !smtp_xtext_ok(value))
		return false;
	mailbox.len = xtext_decode(value.data, value.len, plain);
	if (smtp_span_has_control(mailbox) ||
	    !smtp_path_parse(mailbox, &path) || path.domain.len == 0 ||
	    path.address.len != mailbox.len)
		return false;
	mail->submitter = value;
	mail->submitter_utf8 = path.utf8;
	return true;
}

/* Decimal digits only; -1: not a number, -2: too large. */
static int64_t
number(struct smtp_span text)
{
	int64_t value = 0;

	if (text.len == 0 || text.len > SIZE_DIGITS)
		return -1;
	for (size_t i = 0; i < text.len; i++) {
		if (!is_digit((unsigned char)text.data[i]))
			return -1;
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, text.data[i] - '0', &value))
			return -2;
	}
	return value;
}

/* A parameter of MAIL.  seen holds one bit for each that was given. */
enum mail_keyword { KEY_SIZE, KEY_BODY, KEY_SMTPUTF8, KEY_RET, KEY_ENVID,
	KEY_AUTH, MAIL_KEYWORDS };
static const char *const mail_keywords[MAIL_KEYWORDS] = { "SIZE", "BODY",
	"SMTPUTF8", "RET", "ENVID", "AUTH" };

enum rcpt_keyword { KEY_NOTIFY, KEY_ORCPT, RCPT_KEYWORDS };
static const char *const rcpt_keywords[RCPT_KEYWORDS] = { "NOTIFY", "ORCPT" };

/* Which of the keywords; notes it in *seen.  Unknown or a second time: why. */
static const struct smtp_error *
find_keyword(struct smtp_span word, const char *const *keywords, int count,
    unsigned *seen, int *key)
{
	for (*key = 0; *key < count; ++*key)
		if (smtp_span_is(word, keywords[*key]))
			break;
	if (*key == count)
		return &error_unknown;
	if (*seen & 1u << *key)
		return &error_twice;
	*seen |= 1u << *key;
	return NULL;
}

static const struct smtp_error *
mail_parameter(struct smtp_mail *mail, int key, struct smtp_span value)
{
	if ((value.data == NULL) != (key == KEY_SMTPUTF8))
		return &error_value;
	switch ((enum mail_keyword)key) {
	case KEY_SIZE:
		mail->size = number(value);
		if (mail->size == -2)
			return &error_huge;
		return mail->size < 0 ? &error_size : NULL;
	case KEY_BODY:
		mail->eight_bit = smtp_span_is(value, "8BITMIME");
		return mail->eight_bit || smtp_span_is(value, "7BIT") ?
		    NULL : &error_body;
	case KEY_SMTPUTF8:
		mail->smtputf8 = true;
		return NULL;
	case KEY_RET:
		mail->ret = smtp_span_is(value, "FULL") ? "FULL" :
		    smtp_span_is(value, "HDRS") ? "HDRS" : NULL;
		return mail->ret != NULL ? NULL : &error_dsn;
	case KEY_ENVID:
		mail->envid = value;
		return value.len <= ENVID_MAX && smtp_xtext_ok(value) ?
		    NULL : &error_dsn;
	case KEY_AUTH:
		return submitter_parse(value, mail) ? NULL : &error_submitter;
	case MAIL_KEYWORDS:
		break;
	}
	return &error_unknown;
}

const struct smtp_error *
smtp_parse_mail(struct smtp_span text, struct smtp_mail *mail)
{
	const struct smtp_error *error;
	struct parameter parameter;
	struct smtp_span inner, whole;
	unsigned seen = 0;
	int key, found;

	memset(mail, 0, sizeof *mail);
	if (smtp_span_has_control(text))
		return &error_control;
	if (!smtp_path_take(&text, "FROM:", &inner))
		return &error_mail;
	mail->sender.address = inner;
	if (inner.len > 0 && (!smtp_path_parse(inner, &mail->sender) ||
	    mail->sender.domain.len == 0))
		return &error_sender;
	while ((found = next_parameter(&text, &whole, &parameter)) == 1) {
		if (mail->argument_count == SMTP_ARGUMENTS_MAX)
			return &error_many;
		mail->arguments[mail->argument_count++] = whole;
		if ((error = find_keyword(parameter.keyword, mail_keywords,
		    MAIL_KEYWORDS, &seen, &key)) != NULL)
			return error;
		error = mail_parameter(mail, key, parameter.value);
		if (error != NULL)
			return error;
	}
	if (found < 0)
		return &error_value;
	if (mail->submitter_utf8 && !mail->smtputf8)
		return &error_submitter;
	return mail->sender.utf8 && !mail->smtputf8 ? &error_sender_utf8 : NULL;
}

/* RFC 3461, 4.1: NEVER, or a list of the others. */
static bool
notify_parse(struct smtp_span value, unsigned *notify)
{
	static const struct { const char *word; unsigned bit; } words[] = {
		{ "NEVER", NOTIFY_NEVER }, { "SUCCESS", NOTIFY_SUCCESS },
		{ "FAILURE", NOTIFY_FAILURE }, { "DELAY", NOTIFY_DELAY }
	};
	size_t len, i;

	for (;;) {
		for (len = 0; len < value.len && value.data[len] != ','; len++)
			;
		for (i = 0; i < sizeof words / sizeof *words; i++)
			if (smtp_span_is((struct smtp_span){ value.data, len },
			    words[i].word))
				break;
		if (i == sizeof words / sizeof *words ||
		    (*notify & words[i].bit))
			return false;
		*notify |= words[i].bit;
		if (len == value.len)
			break;
		value = smtp_span_behind(value, len + 1);
	}
	return !(*notify & NOTIFY_NEVER) || *notify == NOTIFY_NEVER;
}

/* RFC 3461, 4.2: addr-type ";" xtext; RFC 6533 adds UTF-8 under SMTPUTF8. */
static bool
orcpt_ok(struct smtp_span value, bool smtputf8)
{
	const char *semicolon = memchr(value.data, ';', value.len);
	struct smtp_span type, address;

	if (semicolon == NULL || value.len > ORCPT_MAX)
		return false;
	type = (struct smtp_span){ value.data,
	    (size_t)(semicolon - value.data) };
	address = smtp_span_behind(value, type.len + 1);
	if (type.len == 0 || address.len == 0)
		return false;
	for (size_t i = 0; i < type.len; i++)
		if (!smtp_is_alnum((unsigned char)type.data[i]) &&
		    type.data[i] != '-')
			return false;
	/* utf-8-addr-unitext and "\x{...}" are no xtext. */
	if (smtputf8 && smtp_span_is(type, "utf-8"))
		return true;
	return smtp_xtext_ok(address);
}

static const struct smtp_error *
rcpt_parameter(struct smtp_rcpt *rcpt, int key, struct smtp_span value,
    bool smtputf8)
{
	if (value.data == NULL)
		return &error_value;
	if (key == KEY_NOTIFY)
		return notify_parse(value, &rcpt->notify) ? NULL : &error_dsn;
	rcpt->orcpt = value;
	return orcpt_ok(value, smtputf8) ? NULL : &error_dsn;
}

const struct smtp_error *
smtp_parse_rcpt(struct smtp_span text, bool smtputf8, struct smtp_rcpt *rcpt)
{
	const struct smtp_error *error;
	struct parameter parameter;
	struct smtp_span inner, whole;
	unsigned seen = 0;
	int key, found;

	memset(rcpt, 0, sizeof *rcpt);
	if (smtp_span_has_control(text))
		return &error_control;
	if (!smtp_path_take(&text, "TO:", &inner))
		return &error_rcpt;
	if (!smtp_path_parse(inner, &rcpt->recipient))
		return &error_recipient;
	if (rcpt->recipient.utf8 && !smtputf8)
		return &error_sender_utf8;
	while ((found = next_parameter(&text, &whole, &parameter)) == 1) {
		if (rcpt->argument_count == SMTP_ARGUMENTS_MAX)
			return &error_many;
		rcpt->arguments[rcpt->argument_count++] = whole;
		if ((error = find_keyword(parameter.keyword, rcpt_keywords,
		    RCPT_KEYWORDS, &seen, &key)) != NULL)
			return error;
		error = rcpt_parameter(rcpt, key, parameter.value, smtputf8);
		if (error != NULL)
			return error;
	}
	return found < 0 ? &error_value : NULL;
}

const struct smtp_error *
smtp_parse_bdat(struct smtp_span text, struct smtp_bdat *bdat)
{
	struct smtp_span digits = { text.data, 0 };
	int64_t size;

	memset(bdat, 0, sizeof *bdat);
	while (digits.len < text.len && !smtp_is_blank(text.data[digits.len]))
		digits.len++;
	text = smtp_span_trim(smtp_span_behind(text, digits.len));
	size = number(digits);
	if (size < 0)
		return &error_bdat;
	bdat->size = (uint64_t)size;
	bdat->last = smtp_span_is(text, "LAST");
	return text.len == 0 || bdat->last ? NULL : &error_bdat;
}

const struct smtp_error *
smtp_check_response(struct smtp_span response)
{
	if (response.len > SASL_RESPONSE_MAX)
		return &error_long_response;
	return sasl_is_base64(response.data, response.len) ? NULL :
	    &error_base64;
}

const struct smtp_error *
smtp_parse_auth(struct smtp_span text, struct smtp_auth *auth)
{
	size_t len = 0;

	memset(auth, 0, sizeof *auth);
	while (len < text.len && !smtp_is_blank(text.data[len]))
		len++;
	if (len == 0)
		return &error_auth;
	if (len > SMTP_MECHANISM_MAX)
		return &error_mechanism;
	for (size_t i = 0; i < len; i++) {
		unsigned char byte = (unsigned char)text.data[i];

		if (!smtp_is_alnum(byte) && byte != '-' && byte != '_')
			return &error_mechanism;
		auth->mechanism[i] = byte >= 'a' && byte <= 'z' ?
		    (char)(byte - 'a' + 'A') : (char)byte;
	}
	text = smtp_span_trim(smtp_span_behind(text, len));
	if (text.len == 0)
		return NULL;
	if (text.len == 1 && text.data[0] == '=')
		text.len = 0;
	auth->initial = text;
	for (size_t i = 0; i < text.len; i++)
		if (smtp_is_blank(text.data[i]))
			return &error_auth;
	return smtp_check_response(text);
}
