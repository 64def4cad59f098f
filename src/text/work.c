/*
 * work.c
 *	  The buffers of a caller: they grow, and stay for the next text.
 */
#include "text/text_int.h"

bool
txt_grow(const mr_env *env, void **array, size_t n, size_t *size, size_t element, mr_status *st)
{
	size_t		wanted = *size ? *size : 64;
	size_t		bytes;
	void	   *grown;

	if (n < *size)
		return true;
	while (wanted <= n)
		wanted *= 2;
	if (!mr_mul_size(wanted, element, &bytes) || (grown = mr_alloc(env, bytes)) == NULL)
	{
		mr_fail(st, MR_NOMEM, "out of memory");
		return false;
	}
	if (*array)
	{
		memcpy(grown, *array, *size * element);
		mr_free(env, *array);
	}
	*array = grown;
	*size = wanted;
	return true;
}

bool
txt_room(txt_work *w, txt_buffer *b, size_t more)
{
	size_t		size = b->size;
	size_t		from_size = size,
				to_size = size;

	if (b->len + more <= b->size)
		return true;
	if (b->len + more > UINT32_MAX / 2)
	{
		mr_fail(w->st, MR_LIMIT, "text is too long");
		return false;
	}
	return txt_grow(w->env, (void **) &b->from, b->len + more, &from_size, sizeof(uint32_t), w->st) &&
		txt_grow(w->env, (void **) &b->to, b->len + more, &to_size, sizeof(uint32_t), w->st) &&
		txt_grow(w->env, (void **) &b->data, b->len + more, &b->size, 1, w->st);
}

bool
txt_add_token(txt_work *w, int32_t id, size_t from, size_t to)
{
	if (!txt_grow(w->env, (void **) &w->token, w->n_tokens, &w->tokens_size, sizeof(txt_token), w->st))
		return false;
	w->token[w->n_tokens++] = (txt_token) {
		id, w->text.from[from], w->text.to[to > from ? to - 1 : from]
	};
	return true;
}

bool
txt_add_span(txt_work *w, size_t at, size_t len)
{
	if (len == 0)
		return true;
	if (!txt_grow(w->env, (void **) &w->other_span, w->n_other_spans, &w->other_spans_size, sizeof(txt_span), w->st))
		return false;
	w->other_span[w->n_other_spans++] = (txt_span) {(uint32_t) at, (uint32_t) len};
	return true;
}

void *
txt_scratch(txt_work *w, size_t size)
{
	if (size <= w->scratch_size)
		return w->scratch;
	/* more than asked for, so that words a little longer each do not each allocate */
	if (size < 1 << 20)
		size += size / 2;
	mr_free(w->env, w->scratch);
	w->scratch = mr_alloc(w->env, size);
	w->scratch_size = w->scratch ? size : 0;
	if (w->scratch == NULL)
		mr_fail(w->st, MR_NOMEM, "out of memory");
	return w->scratch;
}

txt_work *
txt_work_create(const mr_env *env, mr_status *st)
{
	txt_work   *w = mr_alloc(env, sizeof(txt_work));

	if (w == NULL)
	{
		mr_fail(st, MR_NOMEM, "out of memory");
		return NULL;
	}
	memset(w, 0, sizeof(*w));
	w->env = env;
	return w;
}

static void
free_buffer(const mr_env *env, txt_buffer *b)
{
	mr_free(env, b->data);
	mr_free(env, b->from);
	mr_free(env, b->to);
}

void
txt_work_free(txt_work *w)
{
	const mr_env *env;

	if (w == NULL)
		return;
	env = w->env;
	free_buffer(env, &w->text);
	free_buffer(env, &w->other);
	mr_free(env, w->span);
	mr_free(env, w->other_span);
	mr_free(env, w->token);
	mr_free(env, w->scratch);
	mr_free(env, w);
}
