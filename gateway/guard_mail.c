/* What the outbound guard did, as mail. */
#include "gateway/guard_mail.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "gateway/received.h"
#include "gateway/report_claim.h"
#include "policy/guard.h"

#define ROWS_MAX	1000

/* The later is the worse. */
static const struct {
	const char *action, *text;
} actions[] = {
	{ "slow", "is slowed down" },
	{ "hold", "has its mail held" },
	{ "suspend", "is suspended" },
};

static const struct {
	const char *measure, *what;
} measures[] = {
	{ "messages", "messages" },
	{ "recipients", "recipients" },
	{ "new_recipients", "recipients never written to" },
	{ "bounces", "bounces" },
	{ "countries", "countries" },
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))
#define MEASURES (sizeof(measures) / sizeof(measures[0]))

const char *
guard_mail_claim(struct arena *arena, char *text, char **rows)
{
	static const char begin[] = GUARD_TALLY "\t";
	char *line, *f[4];

	if (strncmp(text, begin, strlen(begin)) != 0)
		return NULL;
	line = strsep(&text, "\n");
	if (report_claim_split(line, f, 4) != 4 || text == NULL)
		return NULL;
	strsep(&text, "\n");		/* the head, which tells nothing */
	if (text == NULL)
		return NULL;
	*rows = text;
	return arena_printf(arena, "%s %s %s", f[0], f[1], f[2]);
}

struct row {
	char *user, *count, *limit, *country;
	size_t action, measure;		/* in the tables */
	bool outdone;			/* by another of the same user */
};

/* Of printable ASCII: users' names are anybody's choice. */
static void
make_plain(char *text)
{
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

/* Parses a line "1 TAB user ..."; false: it makes no sense. */
static bool
row_parse(char *line, struct row *row)
{
	char *fields[1 + GUARD_TALLY_FIELDS], **f = fields + 1;

	if (report_claim_split(line, fields, 1 + GUARD_TALLY_FIELDS) !=
	    1 + GUARD_TALLY_FIELDS || f[0][0] == '\0')
		return false;
	*row = (struct row){ f[0], f[3], f[4], f[5], 0, 0, false };
	while (row->action < ACTIONS && strcmp(actions[row->action].action,
	    f[1]) != 0)
		row->action++;
	while (row->measure < MEASURES && strcmp(measures[row->measure].measure,
	    f[2]) != 0)
		row->measure++;
	for (int i = 0; i < GUARD_TALLY_FIELDS; i++)
		make_plain(f[i]);
	return row->action < ACTIONS && row->measure < MEASURES;
}

/* Of an account only what was done last is told; how many are left. */
static int
leave_out(struct row *rows, size_t count)
{
	int left = (int)count;

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count && !rows[i].outdone; j++)
			if (j != i && !rows[j].outdone &&
			    rows[j].action >= rows[i].action &&
			    strcmp(rows[j].user, rows[i].user) == 0) {
				rows[i].outdone = true;
				left--;
			}
	return left;
}

static void
put_row(struct buf *out, const struct row *row)
{
	buf_printf(out, "%s %s:\r\n    %s %s in an hour, above %s is "
	    "unusual", row->user, actions[row->action].text, row->count,
	    measures[row->measure].what, row->limit);
	if (row->country[0] != '\0')
		buf_printf(out, "; from country %s", row->country);
	buf_puts(out, ".\r\n");
}

static void
put_header(struct buf *out, const struct guard_mail *mail, int count,
    const struct row *first)
{
	buf_puts(out, "Date: ");
	received_print_date(out, mail->now_ms);
	buf_printf(out, "\r\nFrom: Mail Delivery System <MAILER-DAEMON@%s>",
	    mail->hostname);
	for (size_t i = 0; mail->to[i] != NULL; i++)
		buf_printf(out, "%s <%s>", i == 0 ? "\r\nTo:" : ",\r\n",
		    mail->to[i]);
	buf_puts(out, "\r\nSubject: Outbound guard: ");
	if (count == 1)
		buf_printf(out, "%.60s %s", first->user,
		    actions[first->action].text);
	else
		buf_printf(out, "%d accounts send unusually", count);
	buf_printf(out, "\r\nMessage-ID: <%s@%s>\r\n", mail->id,
	    mail->hostname);
	buf_puts(out, "Auto-Submitted: auto-generated\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
}

static void
put_mail(struct buf *out, const struct guard_mail *mail, int left,
    const struct row *rows, size_t count)
{
	const struct row *first = rows;

	while (first->outdone)
		first++;
	put_header(out, mail, left, first);
	buf_printf(out, "This is the mail system at host %s.\r\n\r\n",
	    mail->hostname);
	for (size_t i = 0; i < count; i++)
		if (!rows[i].outdone)
			put_row(out, &rows[i]);
	buf_puts(out, "\r\n\"millgatectl guard show USER\" tells more, "
	    "\"millgatectl guard release USER\"\r\n"
	    "ends it. Mail that is held is in \"millgatectl queue list\";\r\n"
	    "\"millgatectl queue release ID\" sends it.\r\n");
}

int
guard_mail_print(const struct guard_mail *mail, char *text, struct buf *out)
{
	struct row *rows = calloc(ROWS_MAX, sizeof(*rows));
	size_t count = 0;
	char *line;
	int left;

	if (rows == NULL)
		fatal("out of memory (guard)");
	while (count < ROWS_MAX && (line = strsep(&text, "\n")) != NULL)
		if (row_parse(line, &rows[count]))
			count++;
	left = leave_out(rows, count);
	if (left > 0)
		put_mail(out, mail, left, rows, count);
	free(rows);
	return left;
}
