/*
 * question_key.c
 *	  The key by which a question is found again.  See meaning.h.
 */
#include "core/sha256.h"
#include "text/meaning.h"
#include "text/text_int.h"

#define LOOK_EVERY 65536		/* characters between two looks for interrupts */

/* Marks that may be missing at a question's end; but 5! is another number than 5. */
static bool
ends_question(int32_t c, int32_t before)
{
	return c == '?' || c == '.' || c == 0x2026 || c == 0x3002 || c == 0xff1f || c == 0x061f || (c == '!' && !txt_is_number(before) && before != ')');
}

/* Where the text ends without spaces and such marks. */
static const char *
trimmed_end(const char *text, const char *end)
{
	int			n;

	while (end > text)
	{
		const char *last = end - 1,
				   *before;
		int32_t		c;

		while (last > text && end - last < 4 && (*last & 0xc0) == 0x80)
			last--;
		for (before = last; before > text && last - before < 4;)
			if ((*--before & 0xc0) != 0x80)
				break;
		c = txt_decode(last, end, &n);
		if (!txt_is_space(c) && !ends_question(c, before < last ? txt_decode(before, last, &n) : 0))
			break;
		end = last;
	}
	return end;
}

static void
add_character(mr_sha256 *h, int32_t c)
{
	uint8_t		bytes[4] = {(uint8_t) c, (uint8_t) (c >> 8), (uint8_t) (c >> 16), (uint8_t) (c >> 24)};

	mr_sha256_add(h, bytes, sizeof(bytes));
}

mr_code
txt_question_key(const mr_env *env, const char *text, size_t len, uint8_t key[16], mr_status *st)
{
	const char *end = trimmed_end(text, text + len);
	mr_sha256	h;
	uint8_t		digest[32];
	bool		space = false,
				begun = false;
	uint32_t	steps = 0;
	int			n;

	mr_sha256_init(&h);
	for (const char *p = text; p < end; p += n)
	{
		int32_t		c = txt_decode(p, end, &n);
		int			m;

		if (++steps % LOOK_EVERY == 0 && mr_interrupted(env))
			return mr_fail(st, MR_CANCELED, "canceled");
		if (txt_is_space(c))
		{
			space = begun;
			continue;
		}
		if (space)
			add_character(&h, ' ');
		if (!begun && p + n < end)
		{
			int32_t		next = txt_decode(p + n, end, &m);
			int32_t		lower[2];

			if (txt_is_space(next) || (txt_is_letter(next) && txt_lower(next, lower) == 1 && lower[0] == next))
				if (txt_lower(c, lower) == 1)
					c = lower[0];
		}
		add_character(&h, c);
		begun = true;
		space = false;
	}
	mr_sha256_end(&h, digest);
	memcpy(key, digest, 16);
	return MR_OK;
}
