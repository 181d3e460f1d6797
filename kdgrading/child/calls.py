"""Les appels système refusés à une réponse : ce qui survivrait au bac à sable, en sortirait, ou tromperait les limites.

Les espaces de noms ne cachent pas tout : les trousseaux de clés du noyau (``keyctl``) sont communs à tous les bacs à
sable d'un même utilisateur, et une copie y laisserait sa réponse à la suivante.
"""

import errno

import pyseccomp

_DENIED = (
    *("add_key", "request_key", "keyctl"),  # une mémoire commune à toutes les copies
    *("unshare", "setns", "mount", "umount2", "pivot_root", "fsopen", "fsmount", "move_mount", "open_tree"),
    *("memfd_create", "memfd_secret", "shmget", "msgget", "semget"),  # de la mémoire que rien ne compterait
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
    *("bpf", "perf_event_open", "io_uring_setup", "userfaultfd", "fanotify_init"),  # rien à y faire, souvent percés
)
_NEW_USER_NAMESPACE = 0x10000000
_LAST_ORDINARY_FAMILY = 10  # AF_UNIX, AF_INET, AF_INET6 ; au-delà, des sockets que l'espace réseau ne contient pas


def build_filter() -> pyseccomp.SyscallFilter:
    """Le filtre, prêt à être chargé par un enfant ; ce qu'il interdit échoue, sans tuer."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in _DENIED:
        try:
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), name)
        except RuntimeError:  # un appel que cette version de libseccomp ne connaît pas encore
            continue
    flag = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _NEW_USER_NAMESPACE, _NEW_USER_NAMESPACE)
    rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "clone", flag)
    rules.add_rule(
        pyseccomp.ERRNO(errno.ENOSYS), "clone3"
    )  # ses arguments ne se lisent pas d'ici ; clone prend le relais
    family = pyseccomp.Arg(0, pyseccomp.GT, _LAST_ORDINARY_FAMILY)
    rules.add_rule(pyseccomp.ERRNO(errno.EAFNOSUPPORT), "socket", family)
    return rules
