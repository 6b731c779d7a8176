// SPDX-License-Identifier: Apache-2.0
// Tests of base/sha256.c against the examples of FIPS 180-4 and its million 'a'.
#include "test.h"

#include "base/fd.h"
#include "base/sha256.h"
#include "base/str.h"

static const char million_a[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void assert_digest(const uint8_t digest[SHA256_SIZE], const char *hex)
{
	char text[SHA256_HEX];

	str_hex(digest, SHA256_SIZE, text);
	assert_string_equal(text, hex);
}

static void known_answers(void **state)
{
	static const struct {
		const char *text, *hex;
	} known[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		uint8_t digest[SHA256_SIZE];
		struct sha256 s;

		sha256_init(&s);
		sha256_update(&s, known[i].text, strlen(known[i].text));
		sha256_final(&s, digest);
		assert_digest(digest, known[i].hex);
	}
}

/* Pieces of every length around the block size give what one piece gives. */
static void pieces_of_any_length(void **state)
{
	char a[200];

	(void)state;
	memset(a, 'a', sizeof(a));
	for (size_t piece = 1; piece <= sizeof(a); piece += 13) {
		uint8_t digest[SHA256_SIZE];
		struct sha256 s;
		size_t left = 1000000;

		sha256_init(&s);
		while (left > 0) {
			size_t n = MIN(piece, left);

			sha256_update(&s, a, n);
			left -= n;
		}
		sha256_final(&s, digest);
		assert_digest(digest, million_a);
	}
}

static void file_is_read_from_its_start(void **state)
{
	_cleanup_fd_ int fd = fd_memfd("t", "abc", 3);
	uint8_t digest[SHA256_SIZE];

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(lseek(fd, 2, SEEK_SET), 2);
	assert_int_equal(sha256_fd(fd, digest), 0);
	assert_digest(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers),
		cmocka_unit_test(pieces_of_any_length),
		cmocka_unit_test(file_is_read_from_its_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
