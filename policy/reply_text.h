/* Texts of the configuration that become part of a reply line. */
#ifndef POLICY_REPLY_TEXT_H
#define POLICY_REPLY_TEXT_H

struct buf;
struct conf;
struct conf_section;

#define REPLY_MESSAGE_MAX 200

/* Adds an error unless it is 1 to REPLY_MESSAGE_MAX printable characters. */
void reply_text_check(const struct conf *, const struct conf_section *,
    const char *option, const char *text, struct buf *errors);

#endif
