/*
 * test_core_status.c
 *	  The cores' failure reports and the plain memory environment.
 */
#include "core/env.h"
#include "core/status.h"
#include "unit.h"

int
main(void)
{
	mr_status	st = {0};
	size_t		n;
	void	   *p;

	ok(mr_fail(&st, MR_INVALID, "channel %d of \"%s\"", 3, "x") == MR_INVALID, "mr_fail returns its code");
	ok(st.code == MR_INVALID && strcmp(st.message, "channel 3 of \"x\"") == 0, "message is formatted");
	mr_detail(&st, "Got %d.", 7);
	mr_hint(&st, "Use %d.", 3);
	ok(strcmp(st.detail, "Got 7.") == 0 && strcmp(st.hint, "Use 3.") == 0, "detail and hint are kept");
	mr_fail(&st, MR_LIMIT, "again");
	ok(st.detail[0] == '\0' && st.hint[0] == '\0', "a new failure clears detail and hint");
	ok(mr_fail(NULL, MR_IO, "nobody listens") == MR_IO, "a NULL status is allowed");

	for (int i = 0; i < 600; i++)
		st.message[i % 256] = 'x';
	mr_fail(&st, MR_INVALID, "%0400d", 1);
	ok(strlen(st.message) == 255, "a long message is cut, not overrun");

	ok(!mr_mul_size(SIZE_MAX / 2, 3, &n), "a multiplication that overflows is told");
	ok(mr_mul_size(6, 7, &n) && n == 42, "a multiplication that fits is done");
	ok(!mr_add_size(SIZE_MAX, 1, &n), "an addition that overflows is told");

	p = mr_alloc(&mr_env_malloc, 1000);
	ok(p != NULL && (uintptr_t) p % 64 == 0, "memory is aligned to 64 bytes");
	mr_free(&mr_env_malloc, p);
	ok(mr_alloc(&mr_env_malloc, SIZE_MAX - 10) == NULL, "an impossible size gives NULL");
	return done_testing();
}
