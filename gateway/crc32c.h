/* CRC32C (Castagnoli, as in RFC 3720, B.4), by the processor's own
 * instruction where it has one. */
#ifndef GATEWAY_CRC32C_H
#define GATEWAY_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues from crc (0 at the beginning) over these bytes. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);

/* The same without the instruction; for the test that they agree. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t len);

#endif
