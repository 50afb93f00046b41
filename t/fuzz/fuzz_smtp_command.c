/*
 * SMTP command lines: whatever comes, spans stay within the line, and what is
 * accepted holds no control character.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/smtp_command.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
check(struct smtp_span span, const char *line, size_t len)
{
	if (span.len == 0)
		return;
	assert(span.data >= line && span.data + span.len <= line + len);
	for (size_t i = 0; i < span.len; i++) {
		unsigned char byte = (unsigned char)span.data[i];

		assert(byte >= 0x20 && byte != 0x7F);
	}
}

static void
check_path(const struct smtp_path *path, const char *line, size_t len)
{
	check(path->address, line, len);
	check(path->local, line, len);
	check(path->domain, line, len);
	assert(path->local.len <= SMTP_LOCAL_MAX);
	assert(path->domain.len <= SMTP_DOMAIN_MAX);
}

static void
check_arguments(struct smtp_span text, const char *line, size_t len)
{
	struct smtp_mail mail;
	struct smtp_rcpt rcpt;
	struct smtp_bdat bdat;

	if (smtp_parse_helo(text) == NULL)
		check(text, line, len);
	if (smtp_parse_mail(text, &mail) == NULL) {
		check_path(&mail.sender, line, len);
		check(mail.envid, line, len);
		assert(mail.size >= 0);
		for (size_t i = 0; i < mail.argument_count; i++)
			check(mail.arguments[i], line, len);
	}
	if (smtp_parse_rcpt(text, len % 2, &rcpt) == NULL) {
		check_path(&rcpt.recipient, line, len);
		assert(rcpt.recipient.address.len > 0);
		check(rcpt.orcpt, line, len);
	}
	(void)smtp_parse_bdat(text, &bdat);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_command command;
	char *line = malloc(size + (size == 0));

	memcpy(line, data, size);
	smtp_command_parse(line, size, &command);
	check_arguments(command.argument, line, size);
	check_arguments((struct smtp_span){ line, size }, line, size);
	free(line);
	return 0;
}
