import Foundation

/// A folder in the app's Documents, put there by the Files app, Finder or a cable.
struct BundleFolder: Identifiable, Hashable {
    let url: URL

    var id: URL { url }
    var name: String { url.lastPathComponent }
    /// reference.npz unpacked, beside the files of the bundle; see prepare_bundle.py.
    var reference: URL? {
        let folder = url.appendingPathComponent("reference", isDirectory: true)
        let cases = folder.appendingPathComponent("case.npy")
        return FileManager.default.fileExists(atPath: cases.path) ? folder : nil
    }
}

enum BundleLibrary {
    static var documents: URL {
        FileManager.default.urls(for: .documentDirectory, in: .userDomainMask)[0]
    }

    /// Folders with a manifest, by name.  What is in them is checked when one is opened.
    static func list(in folder: URL = BundleLibrary.documents) -> [BundleFolder] {
        let found = (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)) ?? []
        let bundles = found.filter {
            FileManager.default.fileExists(atPath: $0.appendingPathComponent(Manifest.fileName).path)
        }
        return bundles.map { BundleFolder(url: $0) }.sorted { $0.name < $1.name }
    }
}
