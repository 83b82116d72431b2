import SwiftUI

struct CameraScreen: View {
    @StateObject private var model = CameraModel()
    @State private var isBenching = false
    @Environment(\.scenePhase) private var phase

    var body: some View {
        ZStack(alignment: .bottom) {
            FrameScreenView(screen: model.screen).ignoresSafeArea()
            VStack(spacing: 8) {
                if let problem = model.problem {
                    ProblemBanner(text: problem) { model.dismissProblem() }
                }
                StatsOverlay(stats: model.stats, inUse: model.inUse)
                controls
            }
            .padding(12)
        }
        .background(Color.black)
        .task { await model.watchStats() }
        .task(id: model.isFront) { await model.startCamera() }
        .task(id: LoadKey(bundle: model.selected, units: model.computeUnits)) { await model.load() }
        .onAppear { model.listBundles() }
        .onChange(of: phase) { newPhase in
            if newPhase == .active {
                model.listBundles()  // files may have been added meanwhile
                if !isBenching { Task { await model.startCamera() } }
            } else {
                model.stopCamera()
            }
        }
        .sheet(isPresented: $isBenching, onDismiss: { Task { await model.startCamera() } }, content: {
            BenchView(bundle: model.selected, computeUnits: model.computeUnits)
        })
    }

    private var controls: some View {
        HStack {
            BundlePicker(bundles: model.bundles, selected: $model.selected)
            Picker("Compute units", selection: $model.computeUnits) {
                ForEach(ComputeUnits.allCases) { Text($0.rawValue).tag($0) }
            }
            Spacer()
            if model.isLoading { ProgressView().tint(.white) }
            Button { model.isFront.toggle() } label: { Image(systemName: "arrow.triangle.2.circlepath.camera") }
                .accessibilityLabel("Other camera")
            Button("Bench") {
                model.stopCamera()
                isBenching = true
            }
            .disabled(model.selected == nil)
        }
        .pickerStyle(.menu)
        .tint(.white)
    }

    /// What a load depends on.
    private struct LoadKey: Equatable {
        let bundle: BundleFolder?
        let units: ComputeUnits
    }
}

struct BundlePicker: View {
    let bundles: [BundleFolder]
    @Binding var selected: BundleFolder?

    var body: some View {
        if bundles.isEmpty {
            Text("No bundle yet: copy one into this app's folder with Files or Finder").font(.footnote).foregroundColor(.white)
        } else {
            Picker("Bundle", selection: $selected) {
                ForEach(bundles) { Text($0.name).tag(Optional($0)) }
            }
        }
    }
}

struct ProblemBanner: View {
    let text: String
    let dismiss: () -> Void

    var body: some View {
        HStack {
            Text(text).font(.footnote)
            Spacer()
            Button("OK", action: dismiss)
        }
        .padding(8)
        .background(Color.red.opacity(0.85))
        .foregroundColor(.white)
        .cornerRadius(8)
    }
}
