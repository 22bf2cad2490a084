// SPDX-License-Identifier: GPL-2.0-only
/*
 * klp_test_section - asks the kernel for a section of its own file. A livepatch that
 * patches no function.
 *
 * Parameter: section, its name. Logs "section NAME: N bytes, as in the file" when it
 * has the bytes of KLP_WORD, "section NAME: N bytes" for another one, "section NAME:
 * none", or "sections cannot be asked for" on kernels without
 * klp_find_section_by_name().
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/string.h>

#define KLP_WORD	"klp_test_section_word"

static char *section = "";
module_param(section, charp, 0444);
MODULE_PARM_DESC(section, "Name of the section");

static const char klp_word[] __used __section(".klp_test_word") = KLP_WORD;

/* The header is of the same change as the function. */
#if __has_include("linux/livepatch_external.h")
static void klp_section_ask(void)
{
	size_t size = 0;
	const void *found = klp_find_section_by_name(THIS_MODULE, section, &size);

	if (!found)
		pr_info("section %s: none\n", section);
	else if (size == sizeof(klp_word) && !memcmp(found, KLP_WORD, size))
		pr_info("section %s: %zu bytes, as in the file\n", section, size);
	else
		pr_info("section %s: %zu bytes\n", section, size);
}
#else
static void klp_section_ask(void)
{
	pr_info("sections cannot be asked for\n");
}
#endif

static struct klp_func klp_no_funcs[] = {
	{ }
};

static struct klp_object klp_section_objs[] = {
	{
		.funcs = klp_no_funcs,
	},
	{ }
};

static struct klp_patch klp_section_patch = {
	.mod = THIS_MODULE,
	.objs = klp_section_objs,
};

static int __init klp_test_section_init(void)
{
	klp_section_ask();
	return klp_enable_patch(&klp_section_patch);
}

static void __exit klp_test_section_exit(void)
{
}

module_init(klp_test_section_init);
module_exit(klp_test_section_exit);
MODULE_DESCRIPTION("Livepatch test: asks for a section of its own file");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
