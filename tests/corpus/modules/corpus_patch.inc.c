// SPDX-License-Identifier: GPL-2.0-only
/*
 * The last part of a livepatch of the corpus. The includer defines corpus_funcs[],
 * and where the patch has them:
 *
 *	CORPUS_OBJECT		the module that is patched (default: vmlinux)
 *	CORPUS_CALLBACKS	an initializer for the callbacks of that object
 *	CORPUS_STATES		the array of its states
 *	CORPUS_REPLACE		true when it replaces all other patches
 *	CORPUS_EXIT()		what its exit does
 *	CORPUS_STAYS		it has no exit
 */

static struct klp_object corpus_objs[] = {
	{
#ifdef CORPUS_OBJECT
		.name = CORPUS_OBJECT,
#endif
		.funcs = corpus_funcs,
#ifdef CORPUS_CALLBACKS
		.callbacks = CORPUS_CALLBACKS,
#endif
	},
#ifdef CORPUS_OTHER_OBJECT
	CORPUS_OTHER_OBJECT,
#endif
	{ }
};

static struct klp_patch corpus_patch = {
	.mod = THIS_MODULE,
	.objs = corpus_objs,
#ifdef CORPUS_STATES
	.states = CORPUS_STATES,
#endif
#ifdef CORPUS_REPLACE
	.replace = CORPUS_REPLACE,
#endif
};

static int __init corpus_init(void)
{
	return klp_enable_patch(&corpus_patch);
}
module_init(corpus_init);

#ifndef CORPUS_STAYS
static void __exit corpus_exit(void)
{
#ifdef CORPUS_EXIT
	CORPUS_EXIT();
#endif
}
module_exit(corpus_exit);
#endif

MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
