//! Who runs the server: Postgres refuses to be root, and to run on files that are somebody else's.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, User};

use super::{ClusterError, io_error};

/// The user that runs the server and to whom its files belong.
pub(super) struct Account {
    name: String,
    uid: Uid,
    /// `None`: ourselves.
    switch: Option<(Uid, Gid)>,
}

impl Account {
    /// Who runs the server on `data`: the owner of the cluster that is there. Where there is none, this user, or
    /// for root the unprivileged user that Postgres was installed with.
    ///
    /// # Errors
    /// [`ClusterError::NotOurs`]: another user than this one owns what is there. Nothing is changed then.
    pub(super) fn of(data: &Path) -> Result<Self, ClusterError> {
        let me = Uid::effective();
        let own = |path: &Path| fs::metadata(path).ok().map(|meta| (Uid::from_raw(meta.uid()), meta.gid()));
        let pgdata = data.join("pgdata");
        for path in [pgdata.as_path(), data] {
            let Some((owner, group)) = own(path) else { continue };
            if me.is_root() && !owner.is_root() {
                return Ok(Self {
                    name: name_of(owner),
                    uid: owner,
                    switch: Some((owner, Gid::from_raw(group))),
                });
            }
            if owner != me {
                let (path, owner, user) = (path.to_owned(), name_of(owner), name_of(me));
                return Err(ClusterError::NotOurs { path, owner, user });
            }
        }
        let unprivileged =
            || ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
        Ok(match if me.is_root() { unprivileged() } else { None } {
            Some(user) => Self { name: user.name, uid: user.uid, switch: Some((user.uid, user.gid)) },
            None => Self { name: name_of(me), uid: me, switch: None },
        })
    }

    /// Whether another user than this process's runs the server.
    pub(super) const fn is_another(&self) -> bool {
        self.switch.is_some()
    }

    /// Makes a folder that is this account's alone, unless it is there and is that. It is given away under another name and
    /// renamed into place, so that one that is there belongs to whom it should from the first moment on.
    pub(super) fn make_folder(&self, folder: &Path) -> Result<(), ClusterError> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).map_err(io_error("make", parent))?;
        }
        // One that another user has put there, where everybody may, is not used.
        if let Ok(there) = fs::symlink_metadata(folder) {
            if there.uid() == self.uid.as_raw() {
                return Ok(());
            }
            let is_left_by_us = Uid::effective().as_raw() == there.uid();
            if !is_left_by_us {
                let (path, owner) = (folder.to_owned(), name_of(Uid::from_raw(there.uid())));
                return Err(ClusterError::NotOurs { path, owner, user: self.name.clone() });
            }
        }
        let draft = folder.with_extension(format!("new.{}", super::nonce()));
        fs::DirBuilder::new().mode(0o700).create(&draft).map_err(io_error("make", &draft))?;
        let made = self.own(&draft, 0o700).and_then(|()| {
            // Over a folder that is there it goes only if that one is empty.
            fs::rename(&draft, folder).map_err(io_error("make", folder))
        });
        if made.is_err() {
            fs::remove_dir(&draft).ok();
        }
        made
    }

    /// Gives a file or folder that we have just made to this account.
    pub(super) fn own(&self, path: &Path, mode: u32) -> Result<(), ClusterError> {
        if let Some((uid, gid)) = self.switch {
            nix::unistd::chown(path, Some(uid), Some(gid))
                .map_err(|errno| io_error("give away", path)(errno.into()))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("protect", path))
    }

    /// Has `command` run as this account.
    pub(super) fn apply(&self, command: &mut Command) {
        if let Some((uid, gid)) = self.switch {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
    }

    /// Names the first folder on the way to `path` that this account may not enter.
    pub(super) fn check_path(&self, path: &Path) -> Result<(), ClusterError> {
        let Some((uid, gid)) = self.switch else { return Ok(()) };
        for folder in path.ancestors() {
            let Ok(meta) = fs::metadata(folder) else { continue };
            let enter = if meta.uid() == uid.as_raw() {
                0o100
            } else if meta.gid() == gid.as_raw() {
                0o010
            } else {
                0o001
            };
            if meta.mode() & enter == 0 {
                return Err(ClusterError::Closed { folder: folder.into(), user: self.name.clone() });
            }
        }
        Ok(())
    }
}

/// The name of a user, or its number where it has none.
fn name_of(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("number {uid}"), |user| user.name)
}
