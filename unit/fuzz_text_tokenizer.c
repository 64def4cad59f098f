/*
 * fuzz_text_tokenizer.c
 *	  libFuzzer: any bytes as a tokenizer.json, and what follows as a text.
 *
 * make fuzz (clang with libFuzzer), then
 *	  unit/bin/fuzz_text_tokenizer -max_len=4096 -timeout=5 -rss_limit_mb=1024 CORPUS
 *
 * The file is what stands before the first zero byte; t/test_text_tokenizers.py
 * leaves some that make a corpus under tmp/.
 */
#include <stdint.h>
#include <string.h>

#include "text/text.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *json = (const char *) data;
	const char *zero = memchr(json, '\0', len);
	size_t		json_len = zero ? (size_t) (zero - json) : len;
	const char *text = zero ? zero + 1 : json;
	mr_status	st = {0};
	txt_tokenizer t;
	txt_tokens	tokens;
	txt_work   *w;
	void	   *bytes;
	size_t		size;

	if (txt_compile_json(&mr_env_malloc, json, json_len, &bytes, &size, &st) != MR_OK)
		return 0;
	w = txt_work_create(&mr_env_malloc, &st);
	/* what we compile must pass our own check */
	if (txt_open(bytes, size, &t, &st) != MR_OK)
		__builtin_trap();
	txt_encode(&t, w, text, (size_t) ((const char *) data + len - text), &(txt_limits) {true, 0}, &tokens, &st);
	txt_work_free(w);
	mr_free(&mr_env_malloc, bytes);
	return 0;
}
