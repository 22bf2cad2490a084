// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_target_twins, the third klp_twin(): sympos 3. See klp_target_twins_first.c.
 */

#include "klp_compat.h"
#include "klp_twins.h"

static __klp_noipa const char *klp_twin(void)
{
	return klp_opaque("third");
}

/* noinline: with LTO klp_twin() would get another name when this is inlined elsewhere. */
noinline const char *klp_twins_third(void)
{
	return klp_twin();
}
