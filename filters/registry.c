/* All filters that exist: the only place that knows them all. */
#include "filters/chain.h"
#include "filters/milter.h"
#include "filters/spf.h"

const struct filter *const filters_all[] = {
	&filter_spf,
	&filter_milter,
	NULL
};
