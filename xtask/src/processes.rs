//! Which processes did a process start?

/// Children, their children, and so on, by the kernel's own list.
pub(crate) fn descendants_of(id: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        for task in std::fs::read_dir(format!("/proc/{id}/task"))?.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
            {
                found.push(child);
                open.push(child);
            }
        }
    }
    Ok(found)
}
