/*
 * svm_cache.c
 *	  Rows of a kernel matrix, the least recently used replaced first.
 *
 * Slots are linked from the newest to the oldest.  When the solver shrinks its
 * problem the rows are gathered in place: each becomes shorter, and more fit.
 */
#include "learn/svm.h"

#include <string.h>

static void
fit_slots(svm_cache *c, int n)
{
	size_t		slots;

	c->stride = SVM_PAD(n);
	slots = c->floats / c->stride;
	c->n_slots = slots > (size_t) n ? n : (int) slots;
	if (c->n_slots < 2)
		c->n_slots = 2;
}

void
svm_cache_reset(svm_cache *c, int n)
{
	fit_slots(c, n);
	for (int i = 0; i < n; i++)
		c->slot_of[i] = -1;
	c->used = 0;
	c->newest = c->oldest = -1;
}

static void
link_newest(svm_cache *c, int32_t s)
{
	c->newer[s] = -1;
	c->older[s] = c->newest;
	if (c->newest >= 0)
		c->newer[c->newest] = s;
	else
		c->oldest = s;
	c->newest = s;
}

static void
unlink_slot(svm_cache *c, int32_t s)
{
	if (c->newer[s] >= 0)
		c->older[c->newer[s]] = c->older[s];
	else
		c->newest = c->older[s];
	if (c->older[s] >= 0)
		c->newer[c->older[s]] = c->newer[s];
	else
		c->oldest = c->newer[s];
}

float *
svm_cache_row(svm_cache *c, int row, bool *fresh)
{
	int32_t		s = c->slot_of[row];

	*fresh = s < 0;
	if (s < 0 && c->used < c->n_slots)
		s = c->used++;
	else
	{
		if (s < 0)
		{
			s = c->oldest;
			c->slot_of[c->row_of[s]] = -1;
		}
		unlink_slot(c, s);
	}
	c->slot_of[row] = s;
	c->row_of[s] = row;
	link_newest(c, s);
	return c->pool + (size_t) s * c->stride;
}

void
svm_cache_compact(svm_cache *c, const int32_t *keep, int n)
{
	size_t		old_stride = c->stride;
	int			old_used = c->used;

	/* New number of each row that stays, by its slot; -1 = it goes. */
	for (int s = 0; s < old_used; s++)
		c->moved[s] = -1;
	for (int k = 0; k < n; k++)
		if (c->slot_of[keep[k]] >= 0)
			c->moved[c->slot_of[keep[k]]] = k;
	fit_slots(c, n);
	for (int k = 0; k < n; k++)
		c->slot_of[k] = -1;
	c->used = 0;
	for (int s = 0; s < old_used; s++)
	{
		const float *from = c->pool + (size_t) s * old_stride;
		float	   *to = c->pool + (size_t) c->used * c->stride;
		int32_t		row = c->moved[s];

		if (row < 0)
			continue;
		/* to <= from and k <= keep[k]: nothing unread is overwritten. */
		for (int k = 0; k < n; k++)
			to[k] = from[keep[k]];
		memset(to + n, 0, (c->stride - (size_t) n) * sizeof(float));
		c->slot_of[row] = c->used;
		c->moved[s] = c->used++;
	}
	/* The order of use, from the oldest on; row_of holds it for a moment. */
	old_used = 0;
	for (int32_t s = c->oldest; s >= 0; s = c->newer[s])
		if (c->moved[s] >= 0)
			c->row_of[old_used++] = c->moved[s];
	c->newest = c->oldest = -1;
	for (int i = 0; i < old_used; i++)
		link_newest(c, c->row_of[i]);
	for (int k = 0; k < n; k++)
		if (c->slot_of[k] >= 0)
			c->row_of[c->slot_of[k]] = k;
}
