/* Texts of the configuration that become part of a reply line. */
#include "policy/reply_text.h"

#include <stdbool.h>
#include <string.h>

#include "base/conf.h"

static bool
is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

void
reply_text_check(const struct conf *conf, const struct conf_section *section,
    const char *option, const char *text, struct buf *errors)
{
	if (text == NULL || *text == '\0' || strlen(text) > REPLY_MESSAGE_MAX ||
	    !is_plain(text))
		conf_error(errors, conf, section, option,
		    "is to be 1 to %d printable ASCII characters",
		    REPLY_MESSAGE_MAX);
}
