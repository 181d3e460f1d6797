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
    errno.EFBIG: "fichier trop gros pour ce disque",
    errno.ENOENT: "dossier absent",
    errno.EBUSY: "occupé par un autre programme",
    errno.EMFILE: "trop de fichiers ouverts",
    errno.ENFILE: "trop de fichiers ouverts",
    errno.ENOMEM: "mémoire insuffisante",
    errno.ELOOP: "lien qui tourne en rond",
    errno.ENOTEMPTY: "dossier non vide",
    errno.ESTALE: "le disque réseau a changé",
    errno.ETIMEDOUT: "le disque réseau ne répond pas",
    errno.EINVAL: "nom refusé par le système",
}


def reason(error: OSError) -> str:
    """Le motif, en français s'il est connu."""
    return REASONS.get(error.errno, f"erreur {errno.errorcode.get(error.errno, type(error).__name__)} du système")
