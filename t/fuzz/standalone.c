/*
 * Stands in for libFuzzer where it isn't linked: runs a fuzz target once on
 * nothing, on each file that is named, and on all that the file begins with,
 * so that targets and seeds stay in order under every compiler.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More cuts than this of one file take too long. */
#define CUTS_MAX 512

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

/* A copy of just this size, so that AddressSanitizer sees a byte too many. */
static void
run(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	if (copy == NULL)
		abort();
	if (len > 0)
		memcpy(copy, bytes, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static int
run_file(const char *path)
{
	static uint8_t bytes[1 << 20];
	FILE *file = fopen(path, "rb");
	size_t len, step;

	if (file == NULL) {
		perror(path);
		return -1;
	}
	len = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	step = len / CUTS_MAX + 1;
	for (size_t cut = 0; cut < len; cut += step)
		run(bytes, cut);
	run(bytes, len);
	return 0;
}

int
main(int argc, char **argv)
{
	int status = EXIT_SUCCESS;

	run(NULL, 0);
	for (int i = 1; i < argc; i++)
		if (run_file(argv[i]) != 0)
			status = EXIT_FAILURE;
	printf("%d files\n", argc - 1);
	return status;
}
