/*
 * test_task_sigv4.c
 *	  Signature Version 4: the examples of the Amazon S3 API Reference and of AWS's test suite with the signatures
 *	  written there, and what must be refused.
 */
#include "unit.h"

#include "task/worker/sigv4.h"

static const tsk_sigv4_key example = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", NULL, "us-east-1", "s3"};
static const tsk_sigv4_key suite = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", NULL, "us-east-1", "service"};

#define MAY_24 1369353600		/* 2013-05-24 00:00:00 UTC */

static tsk_sigv4_signed out;
static mr_status st;

static bool
signature_is(const char *hex)
{
	const char *at = strstr(out.authorization, ",Signature=");

	return at != NULL && strcmp(at + 11, hex) == 0;
}

static void
documented_examples(void)
{
	static const char host[] = "examplebucket.s3.amazonaws.com";
	static const char put_hash[] = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
	static const tsk_pair range[] = {{"Range", "bytes=0-9"}};
	static const tsk_pair put[] = {{"x-amz-storage-class", "REDUCED_REDUNDANCY"}, {"Date", "Fri, 24 May 2013 00:00:00 GMT"}};
	static const tsk_pair lifecycle[] = {{"lifecycle", NULL}};
	static const tsk_pair list[] = {{"prefix", "J"}, {"max-keys", "2"}};
	char		hex[65];

	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", host, "/test.txt", 0, NULL, 1, range, TSK_EMPTY_SHA256}, MAY_24, &out, &st) == MR_OK &&
	   signature_is("f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"), "GET object");
	ok(strcmp(out.authorization, "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
			  "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
			  "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41") == 0, "its whole header");
	ok(strcmp(out.amz_date, "20130524T000000Z") == 0 && strcmp(out.target, "/test.txt") == 0, "its date and target");

	tsk_sha256_hex("Welcome to Amazon S3.", 21, hex);
	ok(strcmp(hex, put_hash) == 0, "the hash of a body");
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"PUT", host, "/test$file.text", 0, NULL, 2, put, put_hash}, MAY_24, &out, &st) == MR_OK &&
	   signature_is("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd") && strcmp(out.target, "/test%24file.text") == 0,
	   "PUT object, its key encoded");
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", host, "/", 1, lifecycle, 0, NULL, TSK_EMPTY_SHA256}, MAY_24, &out, &st) == MR_OK &&
	   signature_is("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543") && strcmp(out.target, "/?lifecycle=") == 0,
	   "GET bucket lifecycle, a parameter without a value");
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", host, "/", 2, list, 0, NULL, TSK_EMPTY_SHA256}, MAY_24, &out, &st) == MR_OK &&
	   signature_is("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7") && strcmp(out.target, "/?max-keys=2&prefix=J") == 0,
	   "list objects, parameters sorted");
}

/* Order of parameters and headers, spaces in values: what a signature of ours must not depend on. */
static void
canonical_forms(void)
{
	static const tsk_pair query[] = {{"a", "2"}, {"a-b", ""}, {"a", "1"}, {"A", "x y+z/ü"}, {"a=", "&"}};
	static const tsk_pair plain[] = {{"accept", "a b"}, {"x-b", "1"}};
	static const tsk_pair odd[] = {{"X-B", " 1\t"}, {"Accept", "  a   b "}};
	tsk_sigv4_signed first;

	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", "/", 5, query, 0, NULL, TSK_UNSIGNED_PAYLOAD}, MAY_24, &out, &st) == MR_OK &&
	   strcmp(out.target, "/?A=x%20y%2Bz%2F%C3%BC&a=1&a=2&a%3D=%26&a-b=") == 0, "parameters are sorted by encoded name, then value");
	tsk_sigv4_sign(&suite, &(tsk_sigv4_request) {"GET", "h", "/", 0, NULL, 2, plain, TSK_UNSIGNED_PAYLOAD}, MAY_24, &first, &st);
	tsk_sigv4_sign(&suite, &(tsk_sigv4_request) {"GET", "h", "/", 0, NULL, 2, odd, TSK_UNSIGNED_PAYLOAD}, MAY_24, &out, &st);
	ok(strcmp(first.authorization, out.authorization) == 0, "case, order and spaces of headers do not matter");
	ok(tsk_sigv4_sign(&suite, &(tsk_sigv4_request) {"GET", "h", "/b//a/../%41 +\xc3\xa9~", 0, NULL, 0, NULL, TSK_UNSIGNED_PAYLOAD}, MAY_24, &out, &st) == MR_OK &&
	   strcmp(out.target, "/b//a/../%2541%20%2B%C3%A9~") == 0, "a path is encoded once and not normalised");
}

static void
refusals(void)
{
	static char long_path[9000];
	static tsk_pair many[TSK_SIGV4_PAIRS + 1];
	static const tsk_pair split[] = {{"x-a", "1\r\nx-evil: 2"}};
	tsk_sigv4_key key = example;

	memset(long_path, 'a', sizeof(long_path) - 1);
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", "a", 0, NULL, 0, NULL, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_INVALID, "a path without its slash");
	long_path[0] = '/';
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", long_path, 0, NULL, 0, NULL, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_LIMIT, "a path too long");
	many[0] = (tsk_pair) {"q", long_path};
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", "/", 1, many, 0, NULL, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_LIMIT, "a query too long");
	long_path[8180] = '\0';
	many[0].value = "123456789012345";
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", long_path, 1, many, 0, NULL, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_LIMIT, "path and query together");
	for (int i = 0; i <= TSK_SIGV4_PAIRS; i++)
		many[i] = (tsk_pair) {"x-n", "v"};
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", "/", TSK_SIGV4_PAIRS + 1, many, 0, NULL, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_LIMIT, "too many parameters");
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", "/", 0, NULL, TSK_SIGV4_PAIRS + 1, many, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_LIMIT, "too many headers");
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", "/", TSK_SIGV4_PAIRS, many, TSK_SIGV4_PAIRS, many, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_OK, "as many as may be");
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h", "/", 0, NULL, 1, split, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_INVALID, "a line break in a header");
	ok(tsk_sigv4_sign(&example, &(tsk_sigv4_request) {"GET", "h\n", "/", 0, NULL, 0, NULL, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_INVALID, "a line break in the host");
	key.region = "a\nb";
	ok(tsk_sigv4_sign(&key, &(tsk_sigv4_request) {"GET", "h", "/", 0, NULL, 0, NULL, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_INVALID, "a line break in the region");
	key = example;
	key.secret_key = long_path;
	ok(tsk_sigv4_sign(&key, &(tsk_sigv4_request) {"GET", "h", "/", 0, NULL, 0, NULL, TSK_EMPTY_SHA256}, 0, &out, &st) == MR_LIMIT, "a secret too long");
}

/* Stdin has requests, one a line, fields separated by tabs; stdout their signatures: for t/test_task_sigv4.py. */
static int
answer_lines(void)
{
	static char line[1 << 16];

	while (fgets(line, sizeof(line), stdin))
	{
		char	   *field[80];
		int			n = 0;
		tsk_pair	query[TSK_SIGV4_PAIRS];
		tsk_pair	headers[TSK_SIGV4_PAIRS];
		tsk_sigv4_key key;
		tsk_sigv4_request r = {0};
		int			at = 10;

		line[strcspn(line, "\n")] = '\0';
		for (char *rest = line; rest && n < 80;)
			field[n++] = strsep(&rest, "\t");
		key = (tsk_sigv4_key) {field[0], field[1], field[2], field[3], "s3"};
		r.method = field[5];
		r.host = field[6];
		r.path = field[7];
		r.payload_sha256 = field[8];
		for (r.n_query = 0; r.n_query < atoi(field[9]); r.n_query++, at += 2)
			query[r.n_query] = (tsk_pair) {field[at], field[at + 1]};
		for (; at + 1 < n; at += 2)
			headers[r.n_headers++] = (tsk_pair) {field[at], field[at + 1]};
		r.query = query;
		r.headers = headers;
		if (tsk_sigv4_sign(&key, &r, atoll(field[4]), &out, &st) == MR_OK)
			printf("%s\t%s\n", out.target, out.authorization);
		else
			printf("failed: %s\n", st.message);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--sign") == 0)
		return answer_lines();
	documented_examples();
	canonical_forms();
	refusals();
	return done_testing();
}
