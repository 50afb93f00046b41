/* Between the journal's codec and its files. */
#ifndef GATEWAY_JOURNAL_FILE_H
#define GATEWAY_JOURNAL_FILE_H

#include <stdint.h>

/* Fills JOURNAL_HEADER_SIZE bytes. */
void journal_header_encode(uint64_t serial, void *bytes);

#endif
