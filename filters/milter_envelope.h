/* What milters change in the envelope. */
#ifndef FILTERS_MILTER_ENVELOPE_H
#define FILTERS_MILTER_ENVELOPE_H

struct mail;

/*
 * Makes the edit of that code (ADDRCPT to QUARANTINE; others are none of the
 * envelope and do nothing) in the name of filter; first and second live as long
 * as the mail.
 */
void milter_envelope_edit(struct mail *, const char *filter, char code,
    const char *first, const char *second);

#endif
