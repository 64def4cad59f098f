/*
 * test_core_sha256.c
 *	  SHA-256: FIPS 180-4's examples, any cut of the data, and the processor's
 *	  instructions against plain C.
 */
#include "unit.h"
#include "core/sha256.h"
#include "../src/core/sha256.c"

static bool
digest_is(const char *data, size_t len, const char *hex)
{
	uint8_t		d[32];
	char		text[65];

	mr_sha256_of(data, len, d);
	for (int i = 0; i < 32; i++)
		snprintf(text + 2 * i, 3, "%02x", d[i]);
	return strcmp(text, hex) == 0;
}

int
main(void)
{
	static char million[1000000];
	static uint8_t data[5000];
	uint64_t	x = 88172645463325252ull;
	bool		good = true;
	uint32_t	a[8] = {1, 2, 3, 4, 5, 6, 7, 8},
				b[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	memset(million, 'a', sizeof(million));
	ok(digest_is("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), "nothing");
	ok(digest_is("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "one block");
	ok(digest_is("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
				 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"), "two blocks");
	ok(digest_is(million, sizeof(million), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
	   "a million letters");

	for (size_t i = 0; i < sizeof(data); i++)
	{
		x = x * 6364136223846793005u + 1442695040888963407u;
		data[i] = (uint8_t) (x >> 56);
	}
	for (size_t len = 0; len < sizeof(data) && good; len += 1 + len / 7)
	{
		uint8_t		whole[32],
					cut[32];
		mr_sha256	h;

		mr_sha256_of(data, len, whole);
		mr_sha256_init(&h);
		for (size_t at = 0, n = 1; at < len; at += n, n = n * 5 % 131 + 1)
			mr_sha256_add(&h, data + at, n < len - at ? n : len - at);
		mr_sha256_end(&h, cut);
		good = memcmp(whole, cut, 32) == 0;
	}
	ok(good, "the same whole and in pieces");

#if defined(__x86_64__)
	if (has_sha())
	{
		compress_plain(a, data, sizeof(data) / 64);
		compress_sha(b, data + 0, sizeof(data) / 64);
		ok(memcmp(a, b, sizeof(a)) == 0, "the processor's instructions and plain C agree");
	}
	else
#endif
		skip("no SHA instructions here");
	return done_testing();
}
