"""Pourquoi un dossier ou un fichier ne s'écrit pas, dit en français."""

import errno

REASONS = {
    errno.ENOSPC: "disque plein",
    errno.EDQUOT: "quota atteint",
    errno.EACCES: "accès interdit",
    errno.EPERM: "accès interdit",
    errno.EROFS: "lecture seule",
    errno.ENOTDIR: "ce n'est pas un dossier",
    errno.EEXIST: "ce n'est pas un dossier",
    errno.EISDIR: "c'est un dossier",
    errno.ENAMETOOLONG: "nom trop long",
    errno.EIO: "le disque ne répond pas",
}


def reason(error: OSError) -> str:
    """Le motif, en français s'il est connu."""
    return REASONS.get(error.errno, error.strerror or type(error).__name__)
