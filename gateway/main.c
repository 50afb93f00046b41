/* millgate: starts as the master, or as the role that the master asks for. */
#include <stdlib.h>

int
main(void)
{
	return EXIT_SUCCESS;
}
